"""Files of one shard: whole or not there, and what a full disk leaves."""

import os
import resource
import tarfile

import numpy as np
import pytest

from prefixcap.store_shards import (
    file_stamp,
    files_of_shard,
    read_shard,
    shard_is_whole,
    skipped_of_shard,
    write_shard,
)


class Killed(Exception):
    """Stands for the end of the process."""


def shard(*names: str, value: float = 0.0) -> dict[str, np.ndarray]:
    """Vectors (4,) float16 of these images, each its own."""
    return {name: np.full(4, ord(name) + value, np.float16) for name in names}


@pytest.mark.parametrize(
    ("rows", "skipped"),
    [
        (shard("a", "b", "c") | shard("b", value=0.5), {}),  # b was replaced, c is new
        (shard("b", "a"), {}),
        (shard("b"), {"a": "is gone"}),
    ],
)
def test_whenever_it_is_killed_a_shard_has_no_other_images_vector(
    tmp_path, monkeypatch, rows, skipped
):
    replace, files = os.replace, {"a": "1", "b": "2"}
    new_files = files | {"b": "22", "c": "3"}
    for last in range(5):
        write_shard(tmp_path, 0, shard("a", "b"), {"c": "no photo"}, files)
        left = iter(range(last))

        def dying(*names, left=left):
            if next(left, None) is None:
                raise Killed
            replace(*names)

        monkeypatch.setattr(os, "replace", dying)
        try:
            write_shard(tmp_path, 0, rows, skipped, new_files)
        except Killed:
            assert last < 4
        monkeypatch.setattr(os, "replace", replace)
        for name, vector in read_shard(tmp_path, 0).items():
            assert int(vector[0]) == ord(name)
            if files_of_shard(tmp_path, 0)[name] == "22":
                assert vector[0] == rows[name][0]  # no file is called encoded before it is
    assert list(read_shard(tmp_path, 0)) == list(rows)
    assert skipped_of_shard(tmp_path, 0) == skipped


def test_a_shard_is_whole_for_those_it_has_a_row_or_a_reason_of(tmp_path):
    assert not shard_is_whole(tmp_path, 0, [])
    write_shard(tmp_path, 0, shard("a", "b"), {"c": "no photo"}, {})
    assert shard_is_whole(tmp_path, 0, ["a", "b", "c"])
    assert shard_is_whole(tmp_path, 0, ["b"])
    assert not shard_is_whole(tmp_path, 0, ["a", "d"])


def test_files_of_photos_are_known_by_size_and_time(tmp_path):
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"12345")
    os.utime(photo, ns=(5, 7))
    assert file_stamp(photo) == "5 7"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(photo, "a.jpg")
    for path in (tmp_path / "a.tar/a.jpg", tmp_path / "gone.jpg", tmp_path):
        assert file_stamp(path) is None


def test_files_are_unknown_where_none_was_and_others_where_the_list_is_damaged(tmp_path):
    write_shard(tmp_path, 0, shard("a", "b"), {}, {})
    assert not list(tmp_path.glob("files-*"))
    assert files_of_shard(tmp_path, 0) == {}
    write_shard(tmp_path, 0, shard("a", "b"), {}, {"b": "5 7"})
    assert files_of_shard(tmp_path, 0) == {"a": None, "b": "5 7"}
    (tmp_path / "files-00000.json").write_text("[")
    assert files_of_shard(tmp_path, 0) == {"a": "", "b": ""}


@pytest.mark.parametrize("size", [2000, 20000])
def test_a_shard_that_has_no_room_is_named(tmp_path, size):
    """A limit of a file's size stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            write_shard(tmp_path, 0, {"image 0": np.zeros(size, np.float16)}, {}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.filename == str(tmp_path / "embeddings-00000.npy")
    assert list(tmp_path.iterdir()) == []
