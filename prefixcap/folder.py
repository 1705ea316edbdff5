"""Caption a folder: photos decoded ahead, every batch written at once, killed runs continued."""

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch

from prefixcap.caption_files import Record
from prefixcap.captioner import BATCH_SIZE, Caption, Captioner
from prefixcap.config import DecodeOptions
from prefixcap.folder_outputs import FolderOptions, OutputPlan, Outputs
from prefixcap.images import Photo, PhotoSet, Skipped
from prefixcap.photo_loader import Loaded, PhotoLoader, Unread, default_workers
from prefixcap.sidecars import SidecarOptions

__all__ = ["BatchDone", "FolderOptions", "FolderReport", "SidecarOptions", "caption_folder"]

SCORE_DIGITS = 4
LANES = 2  # batches captioned side by side on a CPU (benchmarks/folder.py)
R = TypeVar("R")
Readable = list[tuple[Photo, np.ndarray]]  # photos, and their levels (S, S, 3) uint8


@dataclass(frozen=True)
class BatchDone:
    """What a batch gave, after it was written; `done` of `total` photos are dealt with."""

    captions: Mapping[Photo, Sequence[Caption]]
    skipped: Sequence[Skipped]
    done: int
    total: int


@dataclass(frozen=True)
class FolderReport:
    """What became of the photos; `stopped` where the caller ended the run before the last one."""

    written: int
    kept: int
    skipped: tuple[Skipped, ...]
    stopped: bool


def caption_folder(
    captioner: Captioner,
    photos: PhotoSet,
    options: FolderOptions,
    on_progress: Callable[[BatchDone], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> FolderReport:
    """Caption `photos` and write each batch as soon as it and those before it are done.

    A run that was killed is continued by the same call, and its files are then those of a run that
    was not. Photos that an earlier run skipped are tried again.

    Args:
        captioner: the model.
        photos: what `images.find_photo_set` found.
        options: where to, and how.
        on_progress: called after each batch.
        should_stop: asked before each batch; true ends the run after those that were begun.

    Raises:
        InputError: options that contradict each other, the model or the files of an earlier run;
            outputs that cannot be written.
        OSError: the disk is full, or an output cannot be written any more. What was written is
            whole, and the same call continues.
    """
    decoding = options.decoding or captioner.model.config.decoding
    captioner.check(decoding)  # before any file is made, and before two lanes share the model
    plan = _output_plan(captioner, decoding, options)
    batch_size = options.batch_size or BATCH_SIZE
    with Outputs(plan, photos) as outputs:
        batches = _batches(photos.photos, outputs, batch_size)
        waiting = [photo for batch in batches for photo in batch]
        workers = options.workers
        if workers is None:
            workers = default_workers(len(waiting), captioner.device.type)
        with PhotoLoader(captioner.preprocess, workers, ahead=2 * batch_size) as loader:
            loaded = loader.load([photo.path for photo in waiting])
            run = _Run(captioner, decoding, outputs, len(photos.photos), loaded)
            run.kept = _count_kept(photos.photos, outputs)
            several = len(photos.photos) > batch_size and captioner.device.type == "cpu"
            with _side_by_side(LANES if several else 1) as lanes:
                run.caption_all(batches, lanes, on_progress, should_stop or (lambda: False))
        report = run.report()
        if not report.stopped:
            outputs.finish(report.skipped)
    return report


@dataclass(frozen=True)
class _Batch:
    """A batch on its way: what could be read of it, what could not, and its captions to come."""

    readable: Readable
    skipped: list[Skipped]
    captions: "Future[list[tuple[Photo, list[Caption]]]]"


class _Run:
    """Counts of one run, and the photos that it still gets."""

    def __init__(
        self,
        captioner: Captioner,
        decoding: DecodeOptions,
        outputs: Outputs,
        total: int,
        loaded: Iterator[Loaded],
    ) -> None:
        self.captioner, self.decoding, self.outputs = captioner, decoding, outputs
        self.total, self.loaded = total, loaded
        self.kept = self.written = 0
        self.skipped: list[Skipped] = []
        self.stopped = False

    def report(self) -> FolderReport:
        """The counts so far."""
        return FolderReport(self.written, self.kept, tuple(self.skipped), self.stopped)

    def caption_all(
        self,
        batches: Sequence[Sequence[Photo]],
        lanes: "_Lanes",
        on_progress: Callable[[BatchDone], None] | None,
        should_stop: Callable[[], bool],
    ) -> None:
        """Caption batches side by side, and write them in their order."""
        begun: deque[_Batch] = deque()
        for batch in batches:
            if should_stop():
                self.stopped = True
                break
            begun.append(self._begun(batch, lanes))
            if len(begun) == lanes.count:
                self._finish(begun.popleft(), on_progress)
        while begun:
            self._finish(begun.popleft(), on_progress)

    def _begun(self, photos: Sequence[Photo], lanes: "_Lanes") -> "_Batch":
        """A batch whose photos are loaded, and whose captions are being written."""
        pairs = list(zip(photos, islice(self.loaded, len(photos)), strict=True))
        skipped = [
            Skipped(photo.key, got.reason) for photo, got in pairs if isinstance(got, Unread)
        ]
        readable = [(photo, got) for photo, got in pairs if not isinstance(got, Unread)]
        return _Batch(readable, skipped, lanes.begun(self._read, readable))

    def _finish(self, batch: "_Batch", on_progress: Callable[[BatchDone], None] | None) -> None:
        """Write a batch, and tell of it."""
        captions, skipped = self._written(batch)
        if on_progress is not None:
            done = self.kept + self.written + len(self.skipped)
            on_progress(BatchDone(captions, skipped, done, self.total))

    def _written(self, batch: "_Batch") -> tuple[dict[Photo, list[Caption]], list[Skipped]]:
        """New captions of a batch, and what had to be skipped; both are written."""
        new = {photo for photo, _ in batch.readable if not self.outputs.is_written(photo)}
        captions = {photo: found for photo, found in batch.captions.result() if photo in new}
        skipped, name = batch.skipped, self.captioner.name
        records = {photo: record_of(photo, found, name) for photo, found in captions.items()}
        refused = self.outputs.write(records, skipped)
        for one in refused:
            captions = {photo: found for photo, found in captions.items() if photo.key != one.key}
        skipped += refused
        self.written += len(captions)
        self.skipped += skipped
        return captions, skipped

    def _read(self, readable: Readable) -> list[tuple[Photo, list[Caption]]]:
        """The captions of each photo; runs in a thread of its own."""
        if not readable:
            return []
        levels = np.stack([levels for _, levels in readable])
        paths = [str(photo.path) for photo, _ in readable]
        found = self.captioner.captions_of_levels(levels, self.decoding, paths)
        return [(photo, captions) for (photo, _), captions in zip(readable, found, strict=True)]


class _Lanes:
    """Threads that caption a batch each."""

    def __init__(self, pool: ThreadPoolExecutor, count: int) -> None:
        self.pool, self.count = pool, count
        self._busy: set[int] = set()  # threads with a batch in hand

    def begun(self, read: Callable[[Readable], R], readable: Readable) -> "Future[R]":
        """What `read` will say of a batch, in a lane."""
        return self.pool.submit(self._in_lane, read, readable)

    def drop(self) -> None:
        """End the batches in hand at their next step, where a thread would go on to the end."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        for thread in list(self._busy):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)
            )

    def _in_lane(self, read: Callable[[Readable], R], readable: Readable) -> R:
        self._busy.add(threading.get_ident())
        try:
            return read(readable)
        finally:
            self._busy.discard(threading.get_ident())


@contextmanager
def _side_by_side(most: int) -> Iterator[_Lanes]:
    """At most so many lanes, which share torch's own threads.

    Much of what a small model does is too small for two cores to share; two batches are not.
    """
    before = torch.get_num_threads()
    count = min(most, before)
    torch.set_num_threads(before // count)
    try:
        with ThreadPoolExecutor(count, thread_name_prefix="captions") as pool:
            lanes = _Lanes(pool, count)
            try:
                yield lanes
            except KeyboardInterrupt:
                lanes.drop()
                raise
    finally:
        torch.set_num_threads(before)


def record_of(photo: Photo, captions: Sequence[Caption], model: str) -> Record:
    """Record of a photo: path, caption, score, model, and the other captions with theirs."""
    best, *others = captions
    record: Record = {
        "path": photo.key,
        "caption": best.text,
        "score": round(best.score, SCORE_DIGITS),
        "model": model,
    }
    for number, other in enumerate(others, 2):
        record[f"caption_{number}"] = other.text
        record[f"score_{number}"] = round(other.score, SCORE_DIGITS)
    return record


def _output_plan(
    captioner: Captioner, decoding: DecodeOptions, options: FolderOptions
) -> OutputPlan:
    """Where a run writes, and what it must share with its continuation."""
    others = range(2, decoding.captions_per_image + 1)
    more = [f"{name}_{number}" for number in others for name in ("caption", "score")]
    settings = {
        "model": captioner.name,
        "precision": str(captioner.encoder.dtype).removeprefix("torch."),
        "weights": captioner.fingerprint() if options.out or options.sidecar else "",
        "decoding": decoding.model_dump(mode="json"),
    }
    columns = ("path", "caption", "score", "model", *more)
    return OutputPlan(options, columns, settings)


def _count_kept(photos: Sequence[Photo], outputs: Outputs) -> int:
    """Photos that need nothing."""
    return sum(outputs.is_left_out(photo) or outputs.is_written(photo) for photo in photos)


def _batches(photos: Sequence[Photo], outputs: Outputs, batch_size: int) -> list[list[Photo]]:
    """Photos to caption, in batches that are the same whether or not a run was killed.

    Rounding in the model depends on the batch, in the last bits. So a batch that a kill cut in two
    is captioned whole again; its written half is then dropped. Photos that were skipped before are
    tried again alone.
    """
    mine = [photo for photo in photos if not outputs.is_left_out(photo)]
    batches = []
    for start in range(0, len(mine), batch_size):
        batch = mine[start : start + batch_size]
        missing = [photo for photo in batch if not outputs.is_written(photo)]
        was_cut = any(photo.key not in outputs.skipped_before for photo in missing)
        batches.append(batch if was_cut else missing)
    return [batch for batch in batches if batch]
