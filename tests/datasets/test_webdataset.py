"""WebDataset shards."""

import json
from pathlib import Path

import pytest

from prefixcap.datasets import photo_source, read
from prefixcap.errors import InputError
from tests.datasets.conftest import jpeg, put_tar


def test_samples_are_files_with_one_key(tmp_path: Path):
    put_tar(
        tmp_path / "train-0000.tar",
        {
            "x/0001.jpg": jpeg(1),
            "x/0001.txt": b"a cat\n",
            "x/0001.cls": b"3",
            "x/0002.json": json.dumps({"captions": ["a dog", "dogs"], "caption": "no"}).encode(),
            "x/0002.png": jpeg(2),
        },
    )
    put_tar(
        tmp_path / "val/0000.tar",
        {"k.json": b'{"caption": "a tie"}', "k.seg.jpg": b"", "k.jpg": b"z"},
    )
    records = read("webdataset", tmp_path)
    assert [(r.image_id, r.captions, r.split) for r in records] == [
        ("train/x/0001", ("a cat",), "train"),
        ("train/x/0002", ("a dog", "dogs"), "train"),
        ("val/k", ("a tie",), "val"),
    ]
    assert [photo_source(r.path) for r in records] == [jpeg(1), jpeg(2), b"z"]
    assert read("webdataset", tmp_path, "val") == records[2:]


def test_text_goes_before_json_and_sample_without_photo_is_none(tmp_path: Path):
    files = {
        "a.txt": b"text",
        "a.json": b'{"caption": "json"}',
        "a.jpg": b"1",
        "b.txt": b"no photo",
    }
    [record] = read("webdataset", put_tar(tmp_path / "0.tar", files))
    assert (record.captions, record.split) == (("text",), "train")


def test_photo_without_caption_and_broken_json_are_refused(tmp_path: Path):
    shard = put_tar(tmp_path / "0.tar", {"a.jpg": b"1", "a.json": b'{"width": 3}'})
    with pytest.raises(InputError, match=r"a\.jpg has no caption. Expected a\.txt"):
        read("webdataset", shard)
    put_tar(shard, {"a.jpg": b"1", "a.json": b'{"caption": "cu'})
    with pytest.raises(InputError, match=r"a\.json is not whole JSON"):
        read("webdataset", shard)
    with pytest.raises(InputError, match=r"no \.tar shard"):
        read("webdataset", (tmp_path / "empty", (tmp_path / "empty").mkdir())[0])
