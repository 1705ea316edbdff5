"""What a run over a folder writes: records, sidecars, the skipped list; and where it goes on."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from prefixcap import __version__, atomic
from prefixcap.caption_files import (
    Journal,
    JsonLines,
    Record,
    RecordFile,
    check_record_path,
    journal_path,
    remove_torn,
)
from prefixcap.config import DecodeOptions
from prefixcap.errors import InputError
from prefixcap.images import Photo, PhotoSet, Skipped
from prefixcap.sidecars import SidecarOptions, Sidecars, check_sidecars

HIDDEN_NAME = ".captions.jsonl"  # keeps the place of a run that writes sidecars only


@dataclass(frozen=True)
class FolderOptions:
    """How a folder is captioned.

    Attributes:
        out: .jsonl, .csv or .parquet file for the records. None writes none, or with sidecars a
            hidden one in the photos' root, which keeps the run's place.
        sidecar: how sidecars are written; None writes none.
        decoding: None is what the model was saved with.
        batch_size: photos that the model works on together; None is the captioner's default.
        workers: processes that decode photos; None chooses, 0 decodes in this process.
        overwrite: start anew instead of continuing an earlier run.
    """

    out: Path | None = None
    sidecar: SidecarOptions | None = None
    decoding: DecodeOptions | None = None
    batch_size: int | None = None
    workers: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse what no run could do.

        Raises:
            InputError: what was found, and what to do.
        """
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"batch size {self.batch_size}: expected 1 or more")
        if self.workers is not None and self.workers < 0:
            raise InputError(f"{self.workers} workers: expected 0 or more")
        if self.out is not None:
            check_record_path(self.out)
        elif self.overwrite and self.sidecar is None:
            raise InputError("overwrite: there is no output; give --out or --sidecar with it")

    def record_path(self, root: Path) -> Path | None:
        """The file of records, given or hidden, None where nothing is written."""
        return self.out or (root / HIDDEN_NAME if self.sidecar else None)


@dataclass(frozen=True)
class OutputPlan:
    """Where a run writes, the columns of its records, and the settings that may not change."""

    options: FolderOptions
    columns: tuple[str, ...]
    settings: Mapping[str, Any]


class Outputs:
    """The files of a run. Every `write` leaves them such that a killed run can be continued.

    A caption counts as written when its record is: sidecars are written before, and found again
    by their journal. Nothing is on the disk before `__init__` has checked everything.

    Raises:
        InputError: an output of other settings, or one that cannot be written.
    """

    def __init__(self, plan: OutputPlan, photos: PhotoSet) -> None:
        options, self._photos = plan.options, photos.photos
        self._path = options.record_path(photos.root)
        self._stack = ExitStack()
        self._records: RecordFile | None = None
        self._sidecars: Sidecars | None = None
        self._skipped: Journal | None = None
        self.skipped_before: set[str] = set()
        if self._path is None:
            return
        if options.sidecar is not None:
            check_sidecars(self._photos, options.sidecar)
        if options.overwrite:
            _remove_earlier(self._path)
        _check_settings(self._path, _all_settings(plan, photos.root, self._path))
        with ExitStack() as opening:  # closes what is open already if one of these fails
            self._records = opening.enter_context(RecordFile(self._path, plan.columns))
            if options.sidecar is not None:
                sidecars = Sidecars(options.sidecar, _beside(self._path, ".sidecars.jsonl"))
                self._sidecars = opening.enter_context(sidecars)
            if skipped_path(self._path).exists():
                journal = Journal(skipped_path(self._path), JsonLines())
                self._skipped = opening.enter_context(journal)
                self.skipped_before = {str(one["path"]) for one in journal.records}
            self._stack = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def is_left_out(self, photo: Photo) -> bool:
        """Whether `photo` has a sidecar of somebody else's, which is to be kept."""
        return (
            self._sidecars is not None
            and self._sidecars.options.existing == "skip"
            and photo.key not in self._records.keys
            and self._sidecars.is_foreign(photo)
        )

    def is_written(self, photo: Photo) -> bool:
        """Whether the record of `photo`, and its sidecar if it is to have one, are there."""
        if self._records is None or photo.key not in self._records.keys:
            return False
        return self._sidecars is None or self._sidecars.options.path(photo).exists()

    def write(self, records: Mapping[Photo, Record], skipped: Sequence[Skipped]) -> list[Skipped]:
        """Write what a batch gave; photos whose sidecar cannot be added to are returned.

        Raises:
            OSError: the disk is full, or a file cannot be written any more.
        """
        if self._records is None:
            return []
        more = []
        if self._sidecars is not None:
            more = self._sidecars.write({one: str(records[one]["caption"]) for one in records})
        self._note_skipped([*skipped, *more])
        failed = {one.key for one in more}
        new = [photo for photo in records if photo.key not in self._records.keys | failed]
        self._records.append([records[photo] for photo in new])
        return more

    def finish(self, skipped: Iterable[Skipped]) -> None:
        """Complete the files after the last photo; the skipped list in the order of the photos.

        Raises:
            OSError: the disk is full.
        """
        if self._records is None or self._path is None:
            return
        reasons = {one.key: one.reason for one in skipped}
        listed = [
            _skipped_record(photo.key, reasons[photo.key])
            for photo in self._photos
            if photo.key in reasons
        ]
        path = skipped_path(self._path)
        remove_torn(path)
        remove_torn(_beside(self._path, ".run.json"))
        if listed:
            atomic.write_text(path, JsonLines().encode(listed).decode())
        else:
            path.unlink(missing_ok=True)
        self._records.finish()
        if self._sidecars is not None:
            self._sidecars.finish()

    def _note_skipped(self, skipped: Sequence[Skipped]) -> None:
        """Add to the skipped list what is not there yet."""
        new = [one for one in skipped if one.key not in self.skipped_before]
        if not new:
            return
        if self._skipped is None:
            journal = Journal(skipped_path(self._path), JsonLines())
            self._skipped = self._stack.enter_context(journal)
        self._skipped.append([_skipped_record(one.key, one.reason) for one in new])
        self.skipped_before |= {one.key for one in new}


def skipped_path(out: Path) -> Path:
    """List of what could not be captioned: `captions.skipped.jsonl` beside `captions.csv`."""
    return out.with_name(out.stem.lstrip(".") + ".skipped.jsonl")


def begun_precision(out: Path) -> str | None:
    """ "float32" or "bfloat16", as an earlier run for `out` had it; None where there was none."""
    return (_read_settings(_beside(out, ".run.json")) or {}).get("precision")


def _skipped_record(key: str, reason: str) -> Record:
    """Line of the skipped list."""
    return {"path": key, "reason": reason}


def _beside(out: Path, ending: str) -> Path:
    """File that belongs to `out`, named after it."""
    return out.with_name(out.name + ending)


def _remove_earlier(out: Path) -> None:
    """Remove what an earlier run left for `out`."""
    ending = (".run.json", ".sidecars.jsonl")
    files = [out, journal_path(out), skipped_path(out), *(_beside(out, one) for one in ending)]
    for path in files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{path}: cannot be removed ({error.strerror})") from error


def _all_settings(plan: OutputPlan, root: Path, out: Path) -> dict[str, Any]:
    """Settings that a continued run must share with its beginning."""
    return {
        "prefixcap": __version__,
        "photos": os.path.relpath(root, out.absolute().parent),  # so that both can be moved
        "sidecar": asdict(plan.options.sidecar) if plan.options.sidecar else None,
        **plan.settings,
    }


def _check_settings(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a new run, or compare them with those it was begun with.

    Raises:
        InputError: they differ, or `out` is not from such a run.
    """
    path = _beside(out, ".run.json")
    begun = _read_settings(path)
    if begun is None and (out.exists() or journal_path(out).exists()):
        raise InputError(
            f"{out}: exists, and {path.name} that would tell how it was made does not. Choose "
            "another output, or write over it with --overwrite"
        )
    if begun is None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_json(path, settings)
        except OSError as error:
            raise InputError(
                f"{out}: cannot be written ({error.strerror}). Choose another output with --out"
            ) from error
        return
    for key, was, now in _differences(begun, settings):
        raise InputError(
            f"{out}: was begun with {key} {was}, now it is {now}. Give the same options to "
            "continue it, choose another --out, or start anew with --overwrite"
        )


def _read_settings(path: Path) -> dict[str, Any] | None:
    """Settings of the run that wrote beside `path`; None where there was none."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}). Start anew with --overwrite"
        ) from error
    return settings if isinstance(settings, dict) else {}


def _differences(begun: Mapping, now: Mapping) -> list[tuple[str, Any, Any]]:
    """Settings that differ: name, value then, value now. The version may."""
    found = []
    for key, value in now.items():
        was = begun.get(key)
        if key == "prefixcap" or was == value:
            continue
        if isinstance(was, dict) and isinstance(value, dict):
            found += _differences(was, value)
        else:
            found.append((key.replace("_", " "), _shown(was), _shown(value)))
    return found


def _shown(value: Any) -> str:
    """A setting as it is shown in an error."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {one!r}" for key, one in value.items())
    return "none" if value is None else repr(value)
