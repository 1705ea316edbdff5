"""WebDataset shards."""

import json
from pathlib import Path

import pytest

from prefixcap.datasets import photo_source, read, remarks
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


def test_text_goes_before_json_and_documents_are_no_captions(tmp_path: Path):
    files = {
        "a.txt": b"text",
        "a.json": b'{"caption": "json"}',
        "a.jpg": b"1",
        "README.txt": b"no photo",
        "b.json": b'{"width": 3}',
        "._c.jpg": b"of macOS",
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


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["my.dog.jpg", "my.dog.txt"], ["train/my.dog"]),
        (["m.dog.jpg", "m.cat.jpg", "m.dog.txt", "m.cat.txt"], ["train/m.dog", "train/m.cat"]),
        (["a/m.jpg", "a/m.txt", "a/m.dog.png", "a/m.dog.txt"], ["train/a/m", "train/a/m.dog"]),
        (["k.jpg", "k.txt", "k.seg.jpg", "k.en.txt"], ["train/k"]),
        (["my.a.jpg", "my.a.txt", "x.jpg", "x.txt", "my.b.jpg", "my.b.txt"],
         ["train/my.a", "train/x", "train/my.b"]),
    ],
)  # fmt: skip
def test_names_with_more_dots_are_samples_where_they_have_captions(
    tmp_path: Path, names: list[str], ids: list[str]
):
    shard = put_tar(tmp_path / "0.tar", {name: name.encode() for name in names})
    records = read("webdataset", shard)
    assert [r.image_id for r in records] == ids
    for record in records:
        photo = photo_source(record.path)
        assert photo.rpartition(b".")[0] == record.captions[0].encode().removesuffix(b".txt")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["x.tif", "x.txt"], "none of 1 samples has a photo .* x"),
        (["my.dog.tif", "my.dog.txt", "b.txt"], r"none of 2 samples has a photo .* my\.dog"),
        (["k.txt", "k.image.jpg"], r"k\.image\.jpg has no caption"),
        (["my.dog.jpg"], r"my\.dog\.jpg has no caption"),
        (["a.jpg", "a.txt", "b.jpg", "b.txt", "a.json"], "the key a is there twice"),
        (["a.jpg", "a.png", "a.txt"], r"a\.jpg and a\.png are photos of one sample"),
    ],
)
def test_samples_that_would_be_lost_are_refused(tmp_path: Path, names: list[str], problem: str):
    content = {"json": b'{"caption": "x"}'}
    files = {name: content.get(name.rpartition(".")[2], b"x") for name in names}
    with pytest.raises(InputError, match=problem):
        read("webdataset", put_tar(tmp_path / "0.tar", files))


@pytest.mark.parametrize(
    ("names", "left_out"),
    [(["b.txt"], ["b"]), (["x.tif"], ["x"]), (["README.txt", "c.json", "d.cls"], [])],
)
def test_samples_without_a_photo_are_remarked(
    tmp_path: Path, names: list[str], left_out: list[str]
):
    files = {"a.jpg": b"x", "a.txt": b"a dog", **dict.fromkeys(names, b"{}")}
    shard = put_tar(tmp_path / "0.tar", files)
    assert [record.image_id for record in read("webdataset", shard)] == ["train/a"]
    examples = [example for remark in remarks("webdataset", shard) for example in remark.examples]
    assert examples == [f"{shard}, {key}" for key in left_out]
