"""Tar shards, whole and cut off."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from prefixcap.datasets.shards import first_member, members, read_member, read_texts, split_path
from prefixcap.errors import InputError
from tests.datasets.conftest import put_tar

LONG = "folder/" * 20 + "caf\u00e9.jpg"
FILES = {"a.jpg": b"\xff" * 700, "a.txt": b"a cat", "b/c.jpg": b"", "b/c.txt": b"a dog"}


def test_any_file_is_read_by_its_name(tmp_path: Path):
    shard = put_tar(tmp_path / "0.tar", FILES)
    assert [member.name for member in members(shard)] == list(FILES)
    assert {name: read_member(shard, name) for name in FILES} == FILES


def test_path_of_a_member_parts_into_shard_and_name(tmp_path: Path):
    shard = put_tar(tmp_path / "0.tar", FILES)
    assert split_path(shard / "b/c.jpg") == (shard, "b/c.jpg")
    folder = tmp_path / "unpacked.tar"
    folder.mkdir()
    assert split_path(folder / "a.jpg") is None
    assert split_path(tmp_path / "a.jpg") is None


def test_texts_are_read_without_the_photos(tmp_path: Path):
    shard = put_tar(tmp_path / "0.tar", FILES)
    assert dict(read_texts(shard, (".txt",))) == {
        name: content if name.endswith(".txt") else b"" for name, content in FILES.items()
    }


def test_shard_cut_at_any_block_is_refused(tmp_path: Path):
    whole = put_tar(tmp_path / "0.tar", FILES).read_bytes()
    end = max(place for place, byte in enumerate(whole) if byte)
    cut = tmp_path / "cut.tar"
    for length in range(0, end, 256):
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.tar: .*Download it again"):
            members(cut)


def test_something_else_than_a_shard_is_refused(tmp_path: Path):
    page = tmp_path / "0.tar"
    page.write_bytes(b"<html>" + b"x" * 2_000 + b"\0" * 2_048)
    with pytest.raises(InputError, match="not a whole tar file"):
        members(page)
    with pytest.raises(InputError, match="there is no such shard"):
        members(tmp_path / "1.tar")


def test_changed_shard_is_indexed_again(tmp_path: Path):
    shard = put_tar(tmp_path / "0.tar", {"a.txt": b"old"})
    assert read_member(shard, "a.txt") == b"old"
    put_tar(shard, {"pad.txt": b"x" * 600, "a.txt": b"new"})
    os.utime(shard, ns=(1, 1))
    assert read_member(shard, "a.txt") == b"new"
    with pytest.raises(InputError, match=r"has no z\.txt"):
        read_member(shard, "z.txt")


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_folders_and_fractions_of_seconds_are_understood(tmp_path: Path, form: int):
    """Times with fractions make the shards of webdataset pax, which names files in two headers."""
    shard = tmp_path / "0.tar"
    names = ["./a.jpg", "dir", "b" * 99, LONG]
    with tarfile.open(shard, "w", format=form) as archive:
        for seed, name in enumerate(names):
            entry = tarfile.TarInfo(name)
            entry.mtime, entry.size = 1.5, 0 if name == "dir" else 300 * seed
            entry.type = tarfile.DIRTYPE if name == "dir" else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(bytes([seed]) * entry.size))
    assert [member.name for member in members(shard)] == ["a.jpg", "b" * 99, LONG]
    assert read_member(shard, LONG) == bytes([3]) * 900


def test_first_member_with_a_suffix_is_found(tmp_path: Path):
    shard = put_tar(tmp_path / "0.tar", FILES)
    found = first_member(shard, (".txt",))
    assert found is not None and found.name == "a.txt"
    assert first_member(shard, (".png",)) is None


def test_damaged_header_is_refused(tmp_path: Path):
    shard = put_tar(tmp_path / "0.tar", FILES)
    content = bytearray(shard.read_bytes())
    content[1536 + 3] ^= 0x20  # in the name of the second file
    shard.write_bytes(content)
    with pytest.raises(InputError, match="damaged after 1536 bytes"):
        members(shard)


def test_name_that_is_twice_in_a_shard_is_refused(tmp_path: Path):
    shard = tmp_path / "0.tar"
    with tarfile.open(shard, "w") as archive:
        for name in ("a.txt", "b.txt", "./a.txt"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(InputError, match=r"has a\.txt twice"):
        members(shard)
