"""A file is whole or as it was before."""

import json
import os
import stat
from pathlib import Path

import pytest

from prefixcap import atomic


def test_a_file_that_fails_half_way_stays_as_it_was(tmp_path: Path):
    path = tmp_path / "captions.jsonl"
    path.write_text("before")
    with pytest.raises(RuntimeError, match="half way"), atomic.replacing(path) as part:
        part.write_text("aft")
        raise RuntimeError("half way")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["captions.jsonl"]


def test_the_target_is_untouched_until_the_block_ends(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    with atomic.replacing(path) as part:
        part.write_bytes(b"weights")
        assert not path.exists()
        assert part.parent == path.parent  # a rename is atomic within one file system only
    assert path.read_bytes() == b"weights"


def test_text_is_utf8_and_its_line_ends_stay(tmp_path: Path):
    atomic.write_text(tmp_path / "x.txt", "é\r\nz\n")
    assert (tmp_path / "x.txt").read_bytes() == b"\xc3\xa9\r\nz\n"


def test_json_reads_back_and_keeps_its_letters(tmp_path: Path):
    value = {"caption": "ein Hund läuft", "score": -0.5}
    atomic.write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text("utf-8")
    assert json.loads(text) == value
    assert "läuft" in text


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, mask: int):
    former = os.umask(mask)
    try:
        atomic.write_bytes(tmp_path / "atomic", b"x")
        (tmp_path / "plain").write_bytes(b"x")
    finally:
        os.umask(former)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("atomic", "plain")]
    assert modes[0] == modes[1]


def test_a_folder_that_is_not_there_is_an_os_error_that_names_it(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        atomic.write_text(tmp_path / "nowhere" / "x.txt", "x")
