"""Tar shards: what they hold, and one photo out of them.

A photo in a shard has the path `SHARD.tar/MEMBER`, for example `cc3m/00012.tar/000120034.jpg`.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from prefixcap.errors import InputError

_BLOCK = 512  # bytes; tar files are made of them, and end in blocks of zeros


@dataclass(frozen=True)
class Member:
    """One file in a shard: its name, where its bytes begin, and how many there are."""

    name: str
    offset: int
    size: int


def members(shard: Path) -> list[Member]:
    """The files in a shard, in its order.

    Raises:
        InputError: no such file, not a tar file, or one that is cut off.
    """
    stat = shard.stat() if shard.is_file() else None
    if stat is None:
        raise InputError(f"{shard}: there is no such shard. Download it again.")
    return list(_index(shard, stat.st_size, stat.st_mtime_ns).values())


def split_path(path: Path) -> tuple[Path, str] | None:
    """Shard and member of a path of the form `SHARD.tar/MEMBER`; None for any other path."""
    for parent in path.parents:
        if parent.suffix == ".tar" and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def read_member(shard: Path, name: str) -> bytes:
    """Bytes of one file in a shard; the shard's index is kept for the next call.

    Raises:
        InputError: the shard is not readable, or has no such member.
    """
    members(shard)  # checks that the shard is there and whole
    stat = shard.stat()
    member = _index(shard, stat.st_size, stat.st_mtime_ns).get(name)
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


@lru_cache(maxsize=64)
def _index(shard: Path, size: int, changed_ns: int) -> dict[str, Member]:
    """Members by name; size and time of change are part of the key of the cache."""
    _refuse_cut_off(shard, size)
    try:
        with tarfile.open(shard, "r:") as archive:
            return {
                name: Member(name, entry.offset_data, entry.size)
                for entry in archive
                if entry.isfile() and (name := entry.name.removeprefix("./").lstrip("/"))
            }
    except tarfile.TarError as error:
        raise InputError(f"{shard}: not a whole tar file ({error}). Download it again.") from error


def _refuse_cut_off(shard: Path, size: int) -> None:
    """Raise where the end mark is missing; tarfile takes a shard cut between files as whole."""
    with shard.open("rb") as file:
        file.seek(max(0, size - 2 * _BLOCK))
        ending = file.read()
    if len(ending) < 2 * _BLOCK or any(ending):
        raise InputError(
            f"{shard}: no tar file, or cut off after {size} bytes (its end mark is missing). "
            "Download it again."
        )
