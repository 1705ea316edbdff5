"""Annotation files that are missing, cut off or something else."""

from pathlib import Path

import pytest

from prefixcap.datasets.annotations import field, read_json, read_object, read_text
from prefixcap.errors import InputError
from tests.datasets.conftest import put_json


def test_every_cut_of_a_json_file_is_refused_in_one_line(tmp_path: Path):
    whole = put_json(tmp_path / "whole.json", {"images": [1, "é"], "n": {"a": None}}).read_bytes()
    cut = tmp_path / "cut.json"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.json: not .*\.$") as caught:
            read_json(cut)
        assert "\n" not in str(caught.value)


def test_byte_order_mark_is_no_part_of_the_text(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_text_of_another_encoding_and_a_missing_file_are_refused(tmp_path: Path):
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(InputError, match=r"not UTF-8 \(byte 3\)"):
        read_text(tmp_path / "latin.txt")
    with pytest.raises(InputError, match="there is no such file"):
        read_text(tmp_path / "none.txt")


def test_object_without_the_keys_says_what_it_has(tmp_path: Path):
    path = put_json(tmp_path / "a.json", {"count": 1})
    assert read_object(path, ["count"], "statistics") == {"count": 1}
    with pytest.raises(InputError, match=r"not statistics.*count, successes; found \['count'\]"):
        read_object(path, ["count", "successes"], "statistics")
    with pytest.raises(InputError, match="found list"):
        read_object(put_json(tmp_path / "b.json", []), ["count"], "statistics")


def test_field_of_wrong_type_is_refused():
    assert field({"id": 3}, "id", int, "here") == 3
    for entry in ({"id": "3"}, {}, "text", None):
        with pytest.raises(InputError, match='here: "id"'):
            field(entry, "id", int, "here")
