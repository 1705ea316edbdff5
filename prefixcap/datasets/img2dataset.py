"""What img2dataset leaves: shards of photos, a parquet of every attempt, statistics.

For shard 00012: `00012.tar` (or the folder `00012/`) with the photos that were found,
`00012.parquet` with url, caption, key, status and error_message of every link tried, and
`00012_stats.json`.
"""

import re
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefixcap.datasets.annotations import field, read_json, read_object
from prefixcap.datasets.parquet import has_pyarrow, read_columns
from prefixcap.datasets.records import clean_caption
from prefixcap.datasets.shards import first_member
from prefixcap.datasets.webdataset import PHOTO_SUFFIXES, samples
from prefixcap.errors import InputError

SUCCESS = "success"
_DOTTED = tuple(f".{suffix}" for suffix in PHOTO_SUFFIXES)
_SHARD = re.compile(r"\d{5,}(?:\.tar|\.parquet)?")
_COLUMNS = ("url", "caption", "key", "status", "error_message")


@dataclass(frozen=True)
class Attempt:
    """One link that was tried; `path` is None where it failed, and `reason` says why."""

    url: str
    caption: str
    key: str
    path: Path | None
    reason: str


@dataclass(frozen=True)
class Statistics:
    """Sums over the `_stats.json` files of a folder; `reasons` counts "success" too."""

    count: int
    successes: int
    reasons: Counter[str]


def is_output(folder: Path) -> bool:
    """True for a folder that img2dataset has written whole shards to."""
    return folder.is_dir() and next(folder.glob("*_stats.json"), None) is not None


def read_statistics(folder: Path) -> Statistics:
    """Sums of the statistics files.

    Raises:
        InputError: there is none, one is cut off or of another program, or a shard has none.
    """
    files = _stats_files(folder)
    reasons: Counter[str] = Counter()
    count = successes = 0
    for file in files:
        stats = read_object(file, ("count", "successes", "status_dict"), "statistics of a shard")
        count += field(stats, "count", int, str(file))
        successes += field(stats, "successes", int, str(file))
        reasons.update(field(stats, "status_dict", dict, str(file)))
    return Statistics(count, successes, reasons)


def read_attempts(folder: Path) -> Iterator[Attempt]:
    """Every link tried, shard by shard; only those found where pyarrow is not installed.

    Raises:
        InputError: no statistics, a shard without any or cut off, or one with more or fewer photos
            than its statistics say.
    """
    for file in _stats_files(folder):
        shard = file.with_name(file.name.removesuffix("_stats.json"))
        attempts = list(_attempts(shard))
        found = sum(attempt.path is not None for attempt in attempts)
        expected = field(read_json(file), "successes", int, str(file))
        if found != expected:
            raise InputError(
                f"{shard}: {found} photos are there, but {file.name} counts {expected}. "
                "Delete this shard and its statistics and run img2dataset again."
            )
        yield from attempts


def _stats_files(folder: Path) -> list[Path]:
    """The statistics of every shard, which img2dataset writes when the shard is whole."""
    files = sorted(folder.glob("*_stats.json"))
    if not files:
        raise InputError(
            f"{folder}: no _stats.json in it. Give the output folder of img2dataset, finished."
        )
    unfinished = _unfinished(folder, {file.name.removesuffix("_stats.json") for file in files})
    if unfinished:
        count = len({name.partition(".")[0] for name in unfinished})
        raise InputError(
            f"{folder}: {count} shards without a _stats.json, such as {unfinished[0]}: img2dataset "
            "was stopped in them. Run it again, it does them anew; or move them elsewhere."
        )
    return files


def _unfinished(folder: Path, whole: Set[str]) -> list[str]:
    """Names of files and filled folders of shards other than the `whole` ones."""
    lengths = {len(name) for name in whole}
    found = [path for path in folder.iterdir() if _SHARD.fullmatch(path.name)]
    return sorted(
        path.name
        for path in found
        if path.stem not in whole
        and len(path.stem) in lengths
        and (path.is_file() or next(path.iterdir(), None) is not None)
    )


def _attempts(shard: Path) -> Iterator[Attempt]:
    """Links of one shard; `shard` is its path without a suffix."""
    table, archive = shard.with_name(f"{shard.name}.parquet"), shard.with_name(f"{shard.name}.tar")
    if table.is_file() and has_pyarrow():
        yield from _from_parquet(table, shard, archive)
    elif archive.is_file():
        yield from _from_tar(archive)
    else:
        yield from _from_files(shard)


def _from_parquet(table: Path, shard: Path, archive: Path) -> Iterator[Attempt]:
    """Attempts in the parquet's order; photos in tar, folder or the parquet itself.

    The tar is not read through: its parquet says what is in it, and opening a photo proves it.
    """
    columns, rows = read_columns(table, _COLUMNS)
    embedded = any(name in columns for name in PHOTO_SUFFIXES)
    photos, suffix = {}, ""
    if archive.is_file():
        first = first_member(archive, _DOTTED)
        suffix = Path(first.name).suffix if first is not None else ""
    elif not embedded:
        photos = _photos_of_folder(shard)
    for number, row in enumerate(rows):
        key, path = row["key"], None
        if row["status"] == SUCCESS:
            inside = archive / f"{key}{suffix}" if suffix else photos.get(key)
            path = table / str(number) if embedded else inside
        reason = SUCCESS if path is not None else str(row["error_message"] or row["status"])
        yield Attempt(row["url"], clean_caption(row["caption"] or ""), key, path, reason)


def _photos_of_folder(shard: Path) -> dict[str, Path]:
    """Photos by key of a shard that was written as files."""
    paths = sorted(shard.iterdir()) if shard.is_dir() else []
    return {path.stem: path for path in paths if path.name.lower().endswith(_DOTTED)}


def _from_tar(archive: Path) -> Iterator[Attempt]:
    for sample in samples(archive):
        if sample.photo is not None:
            caption = clean_caption(str(sample.meta.get("caption") or sample.text or ""))
            url = str(sample.meta.get("url", ""))
            yield Attempt(url, caption, sample.key, archive / sample.photo, SUCCESS)


def _from_files(shard: Path) -> Iterator[Attempt]:
    """Photos of a shard written as files, each with its `.json`."""
    for key, path in _photos_of_folder(shard).items():
        meta: Any = read_json(path.with_suffix(".json"))
        caption = clean_caption(str(field(meta, "caption", str, str(path))))
        yield Attempt(field(meta, "url", str, str(path)), caption, key, path, SUCCESS)
