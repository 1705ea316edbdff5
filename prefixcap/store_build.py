"""A store is built: photos decoded ahead of the encoder, shards taken in turn by processes."""

import fcntl
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch

from prefixcap.config import PreprocessConfig
from prefixcap.datasets.stored_photos import photo_source
from prefixcap.embeddings import LOCK_FILE, StoreItem, begin_store, finish_store
from prefixcap.encoder import ImageEncoder, fitting_batch
from prefixcap.errors import InputError
from prefixcap.images import Skipped, UnreadableImage, open_rgb
from prefixcap.preprocess import pixels
from prefixcap.store_shards import (
    file_stamp,
    files_of_shard,
    read_shard,
    shard_is_whole,
    skipped_of_shard,
    write_shard,
)
from prefixcap.views import cut

BATCHES_AHEAD = 3  # decoded while one is encoded
MOST_DECODERS = 8  # threads that open photos
POLL_S = 0.2  # between two looks at the other processes

Prepare = Callable[[int], "StoreBuild"]


class FirstEndedError(Exception):
    """The process that began a build is gone, so the others end too."""


class StoreBuild:
    """A store in the making. Several processes may work on it, each with an object of its own.

    A shard is written whole or not at all. Who makes one holds a lock on it that ends with the
    process, however that ends. A shard whose unreadable images can be opened by now gets their
    rows, and one whose photos are other files by now their new vectors in the old ones' places.
    """

    def __init__(
        self,
        folder: Path,
        encoder: ImageEncoder,
        items: Sequence[StoreItem],
        batch_size: int | None = None,
    ) -> None:
        """`batch_size` None is one that suits encoder and device.

        Raises:
            InputError: the folder was begun for another encoder, or for images that are not among
                the items.
        """
        self.folder, self.encoder = folder, encoder
        self.batch_size = batch_size or fitting_batch(encoder)
        self.plan = begin_store(folder, encoder, items)
        self.items = self.plan.items
        self.shards = -(-len(self.items) // self.plan.shard_rows)
        self._compared: set[int] = set()  # shards whose photos are the files that were encoded
        self._tried: dict[int, dict[str, str]] = {}  # unreadable images of shards, tried again

    def whole(self) -> int:
        """Number of items whose shards are done."""
        return sum(len(self._part(n)) for n in range(self.shards) if self._is_done(n))

    def encode(self, report: Callable[[int], None], *, wait: bool, decoders: int) -> None:
        """Make the shards that are missing; `report` hears how many items this call has done.

        Args:
            report: called after every batch.
            wait: for shards that another process makes, else they are passed over.
            decoders: threads that open photos.

        Raises:
            InputError: the encoder gives a vector that is not finite, or the file of a stored photo
                was replaced by one that cannot be read.
        """
        done = 0
        for number in self._free_shards(wait):
            before, part = done, self._part(number)
            rows = read_shard(self.folder, number)  # new ones go behind them
            files, changed = files_of_shard(self.folder, number), self._changed(number)
            missing = [
                item for item in part if item.image_id in changed or item.image_id not in rows
            ]
            files |= {item.image_id: file_stamp(item.path) for item in missing}  # before it is read
            ids = {item.image_id for item in part}
            skipped = {  # of who goes on with this store for more images
                image_id: reason
                for image_id, reason in skipped_of_shard(self.folder, number).items()
                if image_id not in ids
            }
            for found, unread in _encoded(self.encoder, missing, self.batch_size, decoders):
                self._refuse_lost(rows, unread)
                rows |= found
                skipped |= unread
                done = before + len(rows) + len(skipped)
                report(done)
            write_shard(self.folder, number, rows, skipped, files)

    def finish(self) -> list[Skipped]:
        """Make a store of the shards; all unreadable images come back."""
        for part in self.folder.glob(".*.part"):  # of processes that were killed
            part.unlink(missing_ok=True)
        return self.plan.left_out + finish_store(self.folder, self.shards, self.encoder)

    def _part(self, number: int) -> Sequence[StoreItem]:
        """Items of one shard."""
        start = number * self.plan.shard_rows
        return self.items[start : start + self.plan.shard_rows]

    def _changed(self, number: int) -> set[str]:
        """Ids of a shard's photos whose files are not those that were encoded."""
        files = files_of_shard(self.folder, number)
        stamps = {
            item.image_id: file_stamp(item.path)
            for item in self._part(number)
            if files.get(item.image_id) is not None
        }
        return {one for one, stamp in stamps.items() if stamp not in (None, files[one])}

    def _refuse_lost(self, rows: Mapping[str, np.ndarray], unread: Mapping[str, str]) -> None:
        """Raise where a photo that has a row cannot be read any more: rows cannot be taken away."""
        for image_id, reason in unread.items():
            if image_id in rows:
                raise InputError(
                    f"{self.folder}: the file of {image_id} was replaced by one that cannot be "
                    f"read ({reason}). Put a photo there, or make the store again in another "
                    "folder: --set store=FOLDER"
                )

    def _is_done(self, number: int) -> bool:
        """Whether a shard is whole, of the files that are there, and still lacks what it lacked."""
        if not shard_is_whole(self.folder, number, [i.image_id for i in self._part(number)]):
            return False
        if number not in self._compared and self._changed(number):
            return False
        self._compared.add(number)
        skipped = skipped_of_shard(self.folder, number)
        if skipped == self._tried.get(number, {}):
            return True
        tried = [item for item in self._part(number) if item.image_id in skipped]
        if any(_is_readable(item) for item in tried):
            return False
        self._tried[number] = skipped
        return True

    def _free_shards(self, wait: bool) -> Iterator[int]:
        """Numbers of shards that are not done, each locked while it is worked on."""
        how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        with (self.folder / LOCK_FILE).open("a") as file:
            for number in range(self.shards):
                if self._is_done(number):
                    continue
                try:
                    fcntl.lockf(file, how, 1, number)
                except (BlockingIOError, PermissionError):  # another process has it
                    continue
                if not self._is_done(number):
                    yield number
                fcntl.lockf(file, fcntl.LOCK_UN, 1, number)


def build_store(
    folder: Path,
    encoder: ImageEncoder,
    items: Sequence[StoreItem],
    *,
    batch_size: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Skipped]:
    """Encode every item into `folder`, continuing after a kill; the unreadable images come back.

    Each image is opened once, by a thread, while the encoder works on earlier ones. Unreadable
    images have no row; the shard's `skipped` file says why.

    Raises:
        InputError: the folder holds vectors of another encoder or of other images, or the encoder
            gives a vector that is not finite.
    """
    build = StoreBuild(folder, encoder, items, batch_size)
    before = build.whole()
    report = on_progress or (lambda done: None)
    build.encode(lambda done: report(before + done), wait=True, decoders=_decoders(1))
    return build.finish()


def build_together(
    prepare: Prepare, processes: int, on_progress: Callable[[int, int, int], None]
) -> list[Skipped]:
    """As `build_store`, by this process and `processes` - 1 others; they share the threads.

    One that is killed leaves its shard to the rest. If this one is, the others end by themselves.

    Args:
        prepare: makes the build in process 0, 1, ...; it has to be picklable.
        processes: how many.
        on_progress: told items done, all items, and the processes that work.
    """
    threads = torch.get_num_threads()
    counts = multiprocessing.get_context("spawn").RawArray("q", processes)
    with _others(prepare, counts) as others, _threads(max(1, threads // processes)):
        build = prepare(0)
        total, before = len(build.items), build.whole()

        def report(done: int) -> None:
            counts[0] = done
            alive = 1 + sum(other.is_alive() for other in others)
            on_progress(min(total, before + sum(counts)), total, alive)

        report(0)
        build.encode(report, wait=False, decoders=_decoders(processes))
        while any(other.is_alive() for other in others):
            others[-1].join(POLL_S)
            others.sort(key=lambda other: other.is_alive())
            report(counts[0])
        own = counts[0]
        build.encode(lambda done: report(own + done), wait=True, decoders=_decoders(1))
        report(total - before)
    return build.finish()


@contextmanager
def _others(prepare: Prepare, counts: Sequence[int]) -> Iterator[list[BaseProcess]]:
    """The processes 1, 2, ...; they do not outlive the block."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // len(counts))
    others = [
        context.Process(target=_help, args=(prepare, index, counts, threads), daemon=True)
        for index in range(1, len(counts))
    ]
    try:
        for other in others:
            other.start()
        yield others
    finally:
        for other in others:
            if other.pid is not None:
                other.kill()
                other.join()


def _help(prepare: Prepare, index: int, counts: list[int], threads: int) -> None:
    """Make shards in a process of its own, until none is free or the first process has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process decides when all end
    first = multiprocessing.parent_process()
    torch.set_num_threads(threads)

    def report(done: int) -> None:
        counts[index] = done
        if not first.is_alive():
            raise FirstEndedError

    with suppress(InputError, FirstEndedError):  # the first process meets the former too
        prepare(index).encode(report, wait=False, decoders=_decoders(len(counts)))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads of torch inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _decoders(processes: int) -> int:
    """Threads that open photos in each of so many processes."""
    return max(2, min(MOST_DECODERS, (os.cpu_count() or 1) // processes))


def _encoded(
    encoder: ImageEncoder, items: Sequence[StoreItem], batch_size: int, decoders: int
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, str]]]:
    """Float16 embeddings of readable items by id, reasons of the others by id, batch by batch."""
    decoded = _decoded(items, encoder.config.preprocess, BATCHES_AHEAD * batch_size, decoders)
    pairs = iter(zip(items, decoded, strict=True))
    while batch := list(islice(pairs, batch_size)):
        opened = {item.image_id: found for item, found in batch}
        skipped = {key: found for key, found in opened.items() if isinstance(found, str)}
        images = {key: found for key, found in opened.items() if not isinstance(found, str)}
        vectors = _vectors(encoder, list(images.values())) if images else []
        yield dict(zip(images, vectors, strict=True)), skipped


@torch.inference_mode()
def _vectors(encoder: ImageEncoder, images: list[np.ndarray]) -> np.ndarray:
    """Embeddings (B, D) or (B, N, D) float16 of pixels (3, S, S) each."""
    batch = torch.from_numpy(np.stack(images)).to(encoder.device)  # (B, 3, S, S)
    with np.errstate(over="ignore"):  # too large for float16 becomes infinite, and is refused
        return encoder(batch).float().cpu().numpy().astype(np.float16)


def _decoded(
    items: Sequence[StoreItem], preprocess: PreprocessConfig, ahead: int, decoders: int
) -> Iterator[np.ndarray | str]:
    """Pixels (3, S, S) of each item in order, or why there are none; `ahead` decoded in advance."""
    waiting: deque[Future[np.ndarray | str]] = deque()
    coming = iter(items)
    with ThreadPoolExecutor(decoders) as pool:
        for item in islice(coming, ahead):
            waiting.append(pool.submit(_open, item, preprocess))
        while waiting:
            found = waiting.popleft().result()
            waiting += [pool.submit(_open, item, preprocess) for item in islice(coming, 1)]
            yield found


def _is_readable(item: StoreItem) -> bool:
    """Whether an image can be opened."""
    try:
        open_rgb(photo_source(item.path))
    except UnreadableImage:
        return False
    return True


def _open(item: StoreItem, preprocess: PreprocessConfig) -> np.ndarray | str:
    """Pixels (3, S, S) of an image, or why there are none."""
    try:
        photo = open_rgb(photo_source(item.path))
        return pixels(photo if item.box is None else cut(photo, item.box), preprocess)
    except UnreadableImage as error:
        return str(error)
