"""One shard of a store as files: vectors, ids, photo files, what is unreadable; whole or not."""

import json
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from prefixcap.atomic import replacing, write_json
from prefixcap.errors import InputError
from prefixcap.images import Skipped


def shard_is_whole(folder: Path, number: int, ids: Iterable[str]) -> bool:
    """Whether a shard has a row for each of these images, or a reason why there is none.

    And whether it is not damaged, as far as lengths tell.
    """
    if not ids_path(folder, number).exists():
        return False
    try:
        stored = read_ids(ids_path(folder, number))
        if stored:
            open_vectors(vectors_path(folder, number), len(stored))
        known = {*stored, *(photo.key for photo in read_skipped(folder, number))}
    except InputError:
        return False
    return known.issuperset(ids)


def read_shard(folder: Path, number: int) -> dict[str, np.ndarray]:
    """Vectors of one shard by their ids, in row order; none where it is damaged or not there."""
    try:
        ids = read_ids(ids_path(folder, number))
        vectors = open_vectors(vectors_path(folder, number), len(ids)) if ids else []
    except InputError:
        return {}
    return dict(zip(ids, vectors[: len(ids)], strict=True))


def skipped_of_shard(folder: Path, number: int) -> dict[str, str]:
    """Why images of a shard have no row, by image id; nothing where that is damaged."""
    try:
        return {photo.key: photo.reason for photo in read_skipped(folder, number)}
    except InputError:
        return {}


def files_of_shard(folder: Path, number: int) -> dict[str, str | None]:
    """`file_stamp` of each photo of a shard when it was encoded, by image id, where it is known.

    It is not of vectors that were taken over, nor in shards of earlier releases. Where the list is
    damaged it is "", which no file has, so that each photo counts as changed.
    """
    if not _files_path(folder, number).exists():
        return {}
    try:
        ids = read_ids(ids_path(folder, number))
    except InputError:
        return {}
    try:
        stamps = _read_json(_files_path(folder, number), list)
    except InputError:
        return dict.fromkeys(ids, "")
    # who was killed left more stamps than ids; rows of an earlier release have none
    return dict(zip(ids, stamps, strict=False))


def file_stamp(path: Path) -> str | None:
    """Size and time of the last change, in ns, of a photo's file; None of one that has no own."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return f"{found.st_size} {found.st_mtime_ns}" if stat.S_ISREG(found.st_mode) else None


def write_shard(
    folder: Path,
    number: int,
    rows: dict[str, np.ndarray],
    skipped: dict[str, str],
    files: Mapping[str, str | None],
) -> None:
    """Write one shard: vectors and files by image id; the ids come last and say that it is whole.

    Rows that are there keep their places, so that ids and vectors fit each other whenever the
    process is killed, and for readers of the store as it was; else the ids are deleted first.
    """
    for image_id, row in rows.items():
        if not np.isfinite(row).all():
            raise InputError(
                f"{folder}: the encoder's vector of {image_id} is not finite in float16; check the "
                "encoder's weights and its preprocessing"
            )
    vectors = np.stack(list(rows.values())) if rows else np.zeros(0, np.float16)
    ids = list(rows)
    before = list(read_shard(folder, number))
    if not before or before != ids[: len(before)]:
        ids_path(folder, number).unlink(missing_ok=True)
    with replacing(vectors_path(folder, number)) as file, file.open("wb") as out:
        # into a file itself numpy writes past Python, and does not say why that failed
        np.save(SimpleNamespace(write=out.write), vectors)
    write_json(_skipped_path(folder, number), skipped)
    if any(map(files.get, ids)) or _files_path(folder, number).exists():
        write_json(_files_path(folder, number), [files.get(image_id) for image_id in ids])
    write_json(ids_path(folder, number), ids)


def read_skipped(folder: Path, number: int) -> list[Skipped]:
    """Unreadable images of one shard; an earlier release left none in its shards."""
    path = _skipped_path(folder, number)
    found = _read_json(path, dict) if path.exists() else {}
    return [Skipped(*pair) for pair in found.items()]


def open_vectors(path: Path, rows: int) -> np.ndarray:
    """Memory map of the first rows of a shard, so many and one at least.

    A build appends rows of images that have become readable; who reads beside it goes on with those
    that its index has.

    Raises:
        InputError: it is damaged.
    """
    try:
        shard = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, error) from error
    if len(shard) < rows:
        raise _damaged(path, f"{len(shard)} rows, expected {rows}")
    return shard


def read_ids(path: Path, length: int | None = None) -> list[str]:
    """Ids of a shard, the first so many if their number is known.

    Raises:
        InputError: the file is damaged.
    """
    found = _read_json(path, list)
    if length is not None and len(found) < length:
        raise _damaged(path, f"{len(found)} ids, expected {length}")
    return found[:length]


def _read_json(path: Path, kind: type) -> Any:
    """What a JSON file of that kind holds."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(found, kind):
        raise _damaged(path, f"a {type(found).__name__}, expected a {kind.__name__}")
    return found


def _damaged(path: Path, error: object) -> InputError:
    """A file of a store cannot be used; making the store again mends it."""
    return InputError(
        f"{path}: is damaged ({error}). Mend it: prefixcap embed RECIPE, which makes again what is "
        "not whole"
    )


def vectors_path(folder: Path, number: int) -> Path:
    """File of a shard's vectors."""
    return folder / f"embeddings-{number:05d}.npy"


def ids_path(folder: Path, number: int) -> Path:
    """File of a shard's image ids, in row order."""
    return folder / f"ids-{number:05d}.json"


def _skipped_path(folder: Path, number: int) -> Path:
    return folder / f"skipped-{number:05d}.json"


def _files_path(folder: Path, number: int) -> Path:
    return folder / f"files-{number:05d}.json"
