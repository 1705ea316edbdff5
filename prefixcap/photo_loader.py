"""Photos decoded ahead in worker processes, in order, so that the model never waits for them."""

import os
import queue
import struct
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np

from prefixcap.config import PreprocessConfig
from prefixcap.errors import InputError
from prefixcap.images import UnreadableImage, open_rgb
from prefixcap.preprocess import resized

FEW_PHOTOS = 64  # decoding them here takes no longer than starting a worker, some 0.3 s
ATTEMPTS = 2  # a photo whose decoding ends a worker twice is given up
LENGTH = struct.Struct("<cI")  # what an answer is, and its length in bytes
LEVELS, REASON = b"p", b"r"
CLOSE_TIMEOUT_S = 5


@dataclass(frozen=True)
class Unread:
    """A photo that gave no pixels, and why."""

    reason: str


Loaded = np.ndarray | Unread


class LoaderError(InputError):
    """Worker processes cannot be started here."""


def default_workers(photos: int, device: str) -> int:
    """Worker processes that keep a model on `device` busy; 0 for a few photos."""
    if photos <= FEW_PHOTOS:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    return max(1, min(8, cores // 2)) if device == "cpu" else max(1, min(16, cores - 1))


def load(path: Path, preprocess: PreprocessConfig) -> Loaded:
    """Levels (S, S, 3) uint8 of a photo, or why there are none."""
    try:
        return resized(open_rgb(path), preprocess)
    except UnreadableImage as error:
        return Unread(error.reason)


class PhotoLoader:
    """Decodes photos in `workers` processes, at most `ahead` photos before they are asked for.

    A worker is a process of its own making, not of `multiprocessing`: it never imports the
    caller's main module, so scripts need no `if __name__` guard and no worker imports torch.
    With `workers` 0 photos are decoded in this process, when they are asked for.
    """

    def __init__(self, preprocess: PreprocessConfig, workers: int, ahead: int = 64) -> None:
        self.preprocess = preprocess
        self.ahead = max(ahead, workers)
        self._workers = [_Worker(preprocess) for _ in range(workers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.close()

    def load(self, paths: Sequence[Path]) -> Iterator[Loaded]:
        """What each path holds, in order.

        Raises:
            LoaderError: a worker ended before it had decoded anything.
        """
        if not self._workers:
            yield from (load(path, self.preprocess) for path in paths)
            return
        for path_number in range(min(self.ahead, len(paths))):
            self._worker_of(path_number).ask(paths[path_number])
        for number in range(len(paths)):
            loaded = self._answer(number)
            if number + self.ahead < len(paths):
                self._worker_of(number + self.ahead).ask(paths[number + self.ahead])
            yield loaded

    def _worker_of(self, number: int) -> "_Worker":
        """The worker that decodes photo `number`: in turn, so that the order is fixed."""
        return self._workers[number % len(self._workers)]

    def _answer(self, number: int) -> Loaded:
        """Photo `number`, with a fresh worker where the old one was killed on it."""
        place, ended = number % len(self._workers), ""
        for attempt in range(1, ATTEMPTS + 1):
            worker = self._workers[place]
            answer = worker.answer()
            if answer is not None:
                return answer
            ended = worker.how_it_ended()
            waiting = list(worker.waiting)
            worker.close()
            rest = waiting if attempt < ATTEMPTS else waiting[1:]
            self._workers[place] = _Worker(self.preprocess, rest, is_proven=True)
        return Unread(f"decoding it ended the worker process {ATTEMPTS} times ({ended})")


class _Worker:
    """One process that decodes the photos it is asked for, in order.

    `is_proven`: another one has decoded photos here, so that a sudden end is the photo's doing.
    """

    def __init__(
        self, preprocess: PreprocessConfig, asked: Sequence[Path] = (), *, is_proven: bool = False
    ) -> None:
        self.waiting: deque[Path] = deque()
        self._is_proven = is_proven
        self._side_px = preprocess.crop_px
        self._errors = _scratch_file()
        self._process = self._started()
        self._answers: queue.SimpleQueue[Loaded | None] = queue.SimpleQueue()
        self._send(preprocess.model_dump_json().encode())
        threading.Thread(target=self._receive, daemon=True).start()
        for path in asked:
            self.ask(path)

    def _started(self) -> subprocess.Popen[bytes]:
        """The process; out of reach of Ctrl-C, so that the run decides when it ends."""
        search = os.pathsep.join(dict.fromkeys([_package_parent(), *filter(None, sys.path)]))
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "prefixcap.photo_loader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def ask(self, path: Path) -> None:
        """Have `path` decoded."""
        self.waiting.append(path)
        self._send(os.fsencode(path))

    def answer(self) -> Loaded | None:
        """The first photo that was asked for; None where the process ended before it was done.

        Raises:
            LoaderError: the process never decoded anything.
        """
        answer = self._answers.get()
        if answer is None and not self._is_proven:
            raise LoaderError(
                f"a process that decodes photos could not start ({self.how_it_ended()}); "
                "run with --workers 0"
            )
        if answer is not None:
            self._is_proven = True
            self.waiting.popleft()
        return answer

    def how_it_ended(self) -> str:
        """Signal or exit code of the ended process, and its last words."""
        code = self._process.wait()
        if code < 0:
            return f"killed by signal {-code}" + (", often for lack of memory" * (code == -9))
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        return ": ".join([f"exit code {code}", *last])

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):
            self._process.stdin.close()
        self._process.kill()
        self._process.wait(CLOSE_TIMEOUT_S)
        self._errors.close()

    def _send(self, message: bytes) -> None:
        """One message to the process; that it has ended shows when its answer is awaited."""
        with suppress(OSError):
            self._process.stdin.write(struct.pack("<I", len(message)) + message)
            self._process.stdin.flush()

    def _receive(self) -> None:
        """Move the answers of the process into the queue, and None when it ends."""
        side = self._side_px
        while (header := self._process.stdout.read(LENGTH.size)) and len(header) == LENGTH.size:
            kind, length = LENGTH.unpack(header)
            content = self._process.stdout.read(length)
            if len(content) < length:
                break
            levels = np.frombuffer(content, np.uint8) if kind == LEVELS else None
            answer = Unread(content.decode()) if levels is None else levels.reshape(side, side, 3)
            self._answers.put(answer)
        self._answers.put(None)
        self._process.stdout.close()


def _scratch_file() -> IO[bytes]:
    """Nameless file for what a worker says on stderr: a pipe would fill up unread."""
    return tempfile.TemporaryFile()


def _package_parent() -> str:
    """Folder that `prefixcap` is imported from."""
    return str(Path(__file__).resolve().parent.parent)


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Decode each path that arrives on `questions` until it ends; the settings come first."""
    preprocess = PreprocessConfig.model_validate_json(_message(questions) or b"{}")
    while (message := _message(questions)) is not None:
        loaded = load(Path(os.fsdecode(message)), preprocess)
        kind = REASON if isinstance(loaded, Unread) else LEVELS
        content = loaded.reason.encode() if isinstance(loaded, Unread) else loaded.tobytes()
        answers.write(LENGTH.pack(kind, len(content)) + content)
        answers.flush()


def _message(stream: IO[bytes]) -> bytes | None:
    """The next message, or None at the end of the stream."""
    header = stream.read(4)
    return stream.read(*struct.unpack("<I", header)) if len(header) == 4 else None


def _main() -> None:
    """Serve on the process's own pipes; whatever a decoder prints goes to stderr instead."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with suppress(BrokenPipeError):  # the run that asked has ended
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    _main()
