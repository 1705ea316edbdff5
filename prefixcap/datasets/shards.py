"""Tar shards: what they hold, and one photo out of them.

A photo in a shard has the path `SHARD.tar/MEMBER`, for example `cc3m/00012.tar/000120034.jpg`.
"""

import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from prefixcap.errors import InputError

_BLOCK = 512  # bytes; tar files are made of them, and end in two blocks of zeros


class Member(NamedTuple):
    """One file in a shard: its name, where its bytes begin, and how many there are."""

    name: str
    offset: int
    size: int


def members(shard: Path) -> list[Member]:
    """The files in a shard, in its order.

    Raises:
        InputError: no such file, not a tar file, one that is cut off, or a name twice in it.
    """
    return list(_indexed(shard).values())


def first_member(shard: Path, suffixes: tuple[str, ...]) -> Member | None:
    """The first file of a shard with one of `suffixes`, found without reading the whole shard.

    Raises:
        InputError: no such file, not a tar file, or one that is cut off.
    """
    _check_end(shard)
    found = (one for one in _walk(shard) if one.name.lower().endswith(suffixes))
    return next(found, None)


def split_path(path: Path) -> tuple[Path, str] | None:
    """Shard and member of a path of the form `SHARD.tar/MEMBER`; None for any other path."""
    for parent in path.parents:
        if parent.suffix == ".tar" and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def read_member(shard: Path, name: str) -> bytes:
    """Bytes of one file in a shard; the shard's index is kept for the next calls.

    Raises:
        InputError: the shard is not readable, or has no such member.
    """
    member = _indexed(shard).get(name)
    if member is None:
        raise InputError(f"{shard}: has no {name}. Read the dataset again: the shard has changed.")
    with shard.open("rb") as file:
        file.seek(member.offset)
        return file.read(member.size)


def read_texts(shard: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Name of every file of a shard, in its order; with its bytes if it ends in one of `suffixes`.

    Photos are named but not read: a pass over the captions of a shard costs little.
    """
    found = members(shard)
    with shard.open("rb") as file:
        for member in found:
            content = b""
            if member.name.lower().endswith(suffixes):
                file.seek(member.offset)
                content = file.read(member.size)
            yield member.name, content


def _indexed(shard: Path) -> dict[str, Member]:
    """Members by name, read again when the shard has changed."""
    if not shard.is_file():
        raise InputError(f"{shard}: there is no such shard. Download it again.")
    stat = shard.stat()
    return _index(shard, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)  # about 4 MB for a shard of 10,000 samples
def _index(shard: Path, size: int, changed_ns: int) -> dict[str, Member]:
    """Members by name; size and time of change are part of the key of the cache."""
    _check_end(shard)
    found: dict[str, Member] = {}
    for member in _walk(shard):
        if found.setdefault(member.name, member) is not member:
            raise InputError(
                f"{shard}: has {member.name} twice, of which one would be lost. Write the shard "
                "again, each name once."
            )
    return found


def _check_end(shard: Path) -> None:
    """Raise where the end mark is missing: the shard may be cut between two files."""
    if not shard.is_file():
        raise InputError(f"{shard}: there is no such shard. Download it again.")
    size = shard.stat().st_size
    with shard.open("rb") as file:
        file.seek(max(0, size - 2 * _BLOCK))
        ending = file.read()
    if len(ending) < 2 * _BLOCK or any(ending):
        raise InputError(
            f"{shard}: no tar file, or cut off after {size} bytes (its end mark is missing). "
            "Download it again."
        )


def _walk(shard: Path) -> Iterator[Member]:
    """Files of a shard, read lazily.

    Where a header is damaged, `tarfile` takes the shard for ended: so what follows the last file
    is looked at.
    """
    try:
        with tarfile.open(shard, "r:") as archive:
            for entry in filter(tarfile.TarInfo.isfile, archive):
                name = entry.name.removeprefix("./").lstrip("/")
                yield Member(name, entry.offset_data, entry.size)
            end = archive.offset
    except tarfile.TarError as error:
        raise InputError(f"{shard}: not a whole tar file ({error}). Download it again.") from error
    with shard.open("rb") as file:
        file.seek(end)
        if any(file.read(_BLOCK)):
            raise InputError(f"{shard}: damaged after {end} bytes. Download it again.")
