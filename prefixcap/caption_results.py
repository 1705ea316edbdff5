"""Captions of a split in a file: COCO's format, ours, tables; matched to records, written."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefixcap import atomic
from prefixcap.datasets import parquet
from prefixcap.datasets.annotations import read_json, read_text
from prefixcap.datasets.columns import CAPTION_COLUMNS, IMAGE_COLUMNS
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError

SHOWN_IDS = 5  # ids listed in one line before "and N more"
KEY_COLUMNS = ("image_id", *IMAGE_COLUMNS, "id")  # what names the image of a caption, best first
EXPECTED = (
    'expected COCO results, [{"image_id": 42, "caption": "a dog"}, ...], or rows (.jsonl, .csv, '
    f".tsv, .parquet) with {', '.join(KEY_COLUMNS)}, and {', '.join(CAPTION_COLUMNS)}"
)
SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class FiledCaption:
    """One caption of a file, under the name that the file gives its image."""

    key: str
    text: str


@dataclass(frozen=True)
class MatchedCaptions:
    """Captions of a file by the image ids of a split, and what does not fit.

    Attributes:
        captions: image id -> caption, in the order of the split; of a repeated id, the first.
        missing: image ids without a caption.
        extra: names in the file that are no image of the split.
        repeated: image ids with more than one caption.
    """

    captions: dict[str, str]
    missing: list[str]
    extra: list[str]
    repeated: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """How many ids are missing, extra, repeated."""
        named = {"missing": self.missing, "extra": self.extra, "repeated": self.repeated}
        return {name: len(ids) for name, ids in named.items()}

    def refuse_doubts(self, source: str) -> None:
        """Nothing, where the file has every image of the split once and no other.

        Raises:
            InputError: the ids that are missing, extra or repeated.
        """
        faults = [
            f"{len(ids)} {what}: {listed(ids)}"
            for what, ids in (
                ("images of the split without a caption", self.missing),
                ("captions of images outside the split", self.extra),
                ("images with more than one caption", self.repeated),
            )
            if ids
        ]
        if faults:
            raise InputError(
                f"{source}: {'; '.join(faults)}. Mend the file, name the right --split, or score "
                "what fits with --allow-missing"
            )


def read_results(path: Path) -> list[FiledCaption]:
    """Captions of a file: one a row, under the image's id, file name or path.

    COCO's results format (`.json`), an object of captions by image id, and what `prefixcap caption`
    writes: `.jsonl`, `.csv`, `.parquet`; `.tsv` too.

    Raises:
        InputError: the file is missing, empty, cut off or of another shape.
        MissingExtraError: pyarrow is not installed, which parquet needs.
    """
    path = Path(path)
    entries = _READERS.get(path.suffix.lower(), read_json)(path)
    if isinstance(entries, dict) and all(isinstance(text, str) for text in entries.values()):
        entries = [{"image_id": key, "caption": text} for key, text in entries.items()]
    if not isinstance(entries, list):
        raise InputError(f"{path}: holds a {type(entries).__name__}; {EXPECTED}")
    if not entries:
        raise InputError(f"{path}: holds no captions; {EXPECTED}")
    return [_filed(entry, f"{path}, entry {number}") for number, entry in enumerate(entries, 1)]


def is_captions_file(name: str) -> bool:
    """Whether `name` is a file of captions, not a model.

    Raises:
        InputError: by its suffix it should be one, and it is not there.
    """
    path = Path(name)
    if not path.exists() and path.suffix.lower() in SUFFIXES:
        raise InputError(f"{name}: there is no such captions file. Check the path")
    return path.is_file()


def match_captions(
    entries: Sequence[FiledCaption], records: Sequence[CaptionRecord]
) -> MatchedCaptions:
    """Each caption with the record whose image id, or else whose file name, the file gives."""
    ids = {record.image_id for record in records}
    by_name: dict[str, list[CaptionRecord]] = {}
    for record in records:
        by_name.setdefault(record.path.name, []).append(record)
    found: dict[str, str] = {}
    extra, repeated = [], []
    for entry in entries:
        image_id = entry.key if entry.key in ids else _id_by_file(entry.key, by_name)
        if image_id is None:
            extra.append(entry.key)
        elif image_id in found:
            repeated.append(image_id)
        else:
            found[image_id] = entry.text
    ordered = [record.image_id for record in records]
    captions = {image_id: found[image_id] for image_id in ordered if image_id in found}
    missing = [image_id for image_id in ordered if image_id not in found]
    return MatchedCaptions(captions, missing, extra, list(dict.fromkeys(repeated)))


def refuse_repeated_records(records: Sequence[CaptionRecord]) -> None:
    """Nothing, where no two records have one image id.

    Raises:
        InputError: some do; ids are unique within a split only.
    """
    twice = [key for key, count in Counter(r.image_id for r in records).items() if count > 1]
    if twice:
        raise InputError(
            f"{len(twice)} image ids stand for several photos: {listed(twice)}. Ids are unique "
            "within one split: name it with --split"
        )


def write_results(path: Path, captions: Mapping[str, str]) -> None:
    """Write captions in COCO's results format, atomically; ids as numbers where all of them are."""
    numeric = all(image_id.isdecimal() and str(int(image_id)) == image_id for image_id in captions)
    entries = [
        {"image_id": int(image_id) if numeric else image_id, "caption": caption}
        for image_id, caption in captions.items()
    ]
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    atomic.write_text(path, f"[\n{lines}\n]\n")


def listed(ids: Sequence[str]) -> str:
    """The first ids, and how many more there are."""
    more = len(ids) - SHOWN_IDS
    shown = ", ".join(ids[:SHOWN_IDS])
    return f"{shown} and {more} more" if more > 0 else shown


def _json_lines(path: Path) -> list[Any]:
    """Values of a JSON lines file; empty lines are none."""
    found = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: is not JSON ({error.msg}); {EXPECTED}") from (
                error
            )
    return found


def _rows(path: Path) -> list[Any]:
    """Rows of a CSV or TSV file with a header."""
    text, is_tsv = read_text(path), path.suffix.lower() == ".tsv"
    form = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if is_tsv else {}
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True, **form))
    except csv.Error as error:
        raise InputError(f"{path}: is not a whole table ({error}). Write it again") from error
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise InputError(
                f"{path}, entry {number}: has another number of cells than the header; quote "
                "captions that have a separator in them"
            )
    return rows


def _parquet_rows(path: Path) -> list[Any]:
    """Rows of a parquet file."""
    _, rows = parquet.read_columns(path, [*KEY_COLUMNS, *CAPTION_COLUMNS])
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def _filed(entry: Any, where: str) -> FiledCaption:
    """The caption in one entry of a file."""
    values = {}
    if isinstance(entry, dict):
        values = {str(name).strip().lower(): value for name, value in entry.items()}
    key = next((values[name] for name in KEY_COLUMNS if name in values), None)
    if isinstance(key, bool) or not isinstance(key, int | str):
        raise InputError(f"{where}: {str(entry)[:60]!r} names no image; {EXPECTED}")
    text = next((values[name] for name in CAPTION_COLUMNS if name in values), None)
    if not isinstance(text, str):
        raise InputError(f"{where}: the caption of image {key} is no text; {EXPECTED}")
    return FiledCaption(str(key), text)


def _id_by_file(key: str, by_name: Mapping[str, Sequence[CaptionRecord]]) -> str | None:
    """Image id of the only record whose file is `key`, a name or the end of a path."""
    named = by_name.get(Path(key).name, [])
    if len(named) > 1:
        end = f"/{key.lstrip('./')}"
        named = [record for record in named if f"/{record.path.as_posix()}".endswith(end)]
    return named[0].image_id if len(named) == 1 else None


_READERS: dict[str, Callable[[Path], Any]] = {
    ".jsonl": _json_lines,
    ".csv": _rows,
    ".tsv": _rows,
    ".parquet": _parquet_rows,
}
