"""Caption a folder: photos decoded ahead, every batch written at once, killed runs continued."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from prefixcap.caption_files import Record
from prefixcap.captioner import BATCH_SIZE, Caption, Captioner
from prefixcap.config import DecodeOptions
from prefixcap.folder_outputs import FolderOptions, OutputPlan, Outputs
from prefixcap.images import Photo, PhotoSet, Skipped
from prefixcap.photo_loader import Loaded, PhotoLoader, Unread, default_workers
from prefixcap.sidecars import SidecarOptions

__all__ = ["BatchDone", "FolderOptions", "FolderReport", "SidecarOptions", "caption_folder"]

SCORE_DIGITS = 4


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
    """Caption `photos` and write each batch before the next one begins.

    A run that was killed is continued by the same call, and its files are then those of a run that
    was not. Photos that an earlier run skipped are tried again.

    Args:
        captioner: the model.
        photos: what `images.find_photo_set` found.
        options: where to, and how.
        on_progress: called after each batch.
        should_stop: asked before each batch; true ends the run there.

    Raises:
        InputError: options that contradict each other, the model or the files of an earlier run;
            outputs that cannot be written.
        OSError: the disk is full, or an output cannot be written any more. What was written is
            whole, and the same call continues.
    """
    decoding = options.decoding or captioner.model.config.decoding
    captioner.check(decoding)  # says what does not fit before any file is made
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
            run.caption_all(batches, on_progress, should_stop or (lambda: False))
        report = run.report()
        if not report.stopped:
            outputs.finish(report.skipped)
    return report


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
        on_progress: Callable[[BatchDone], None] | None,
        should_stop: Callable[[], bool],
    ) -> None:
        """Caption and write batch after batch."""
        for batch in batches:
            if should_stop():
                self.stopped = True
                return
            captions, skipped = self._caption(batch)
            if on_progress is not None:
                done = self.kept + self.written + len(self.skipped)
                on_progress(BatchDone(captions, skipped, done, self.total))

    def _caption(self, batch: Sequence[Photo]) -> tuple[dict[Photo, list[Caption]], list[Skipped]]:
        """New captions of a batch, and what had to be skipped; both are written."""
        loaded = list(islice(self.loaded, len(batch)))
        pairs = list(zip(batch, loaded, strict=True))
        skipped = [
            Skipped(photo.key, got.reason) for photo, got in pairs if isinstance(got, Unread)
        ]
        readable = [(photo, got) for photo, got in pairs if not isinstance(got, Unread)]
        new = {photo for photo, _ in readable if not self.outputs.is_written(photo)}
        captions = {photo: found for photo, found in self._read(readable) if photo in new}
        name = self.captioner.name
        records = {photo: record_of(photo, found, name) for photo, found in captions.items()}
        refused = self.outputs.write(records, skipped)
        for one in refused:
            captions = {photo: found for photo, found in captions.items() if photo.key != one.key}
        skipped += refused
        self.written += len(captions)
        self.skipped += skipped
        return captions, skipped

    def _read(
        self, readable: Sequence[tuple[Photo, np.ndarray]]
    ) -> list[tuple[Photo, list[Caption]]]:
        """The captions of each photo."""
        if not readable:
            return []
        levels = np.stack([levels for _, levels in readable])
        paths = [str(photo.path) for photo, _ in readable]
        found = self.captioner.captions_of_levels(levels, self.decoding, paths)
        return [(photo, captions) for (photo, _), captions in zip(readable, found, strict=True)]


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
