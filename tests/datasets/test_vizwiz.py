"""VizWiz-Captions and its flags."""

from pathlib import Path
from typing import Any

import pytest

from prefixcap.datasets import read, remarks
from prefixcap.datasets.vizwiz import read_flags
from prefixcap.errors import InputError
from tests.datasets.conftest import put_json, put_photos

PRECANNED = "Quality issues are too severe to recognize visual content."


def vizwiz(split: str, count: int = 2) -> dict[str, Any]:
    """The first image has a spam and a precanned caption; the second is all precanned."""
    images = [
        {
            "file_name": f"VizWiz_{split}_{n:08d}.jpg",
            "vizwiz_url": "",
            "id": n,
            "text_detected": n == 0,
        }
        for n in range(count)
    ]
    if split == "test":
        return {"info": {}, "images": images}
    flags = {0: [(False, False), (True, False), (False, True)], 1: [(False, True)] * 3}
    annotations = [
        {
            "caption": PRECANNED if precanned else f"caption {k} ",
            "image_id": n,
            "id": 10 * n + k,
            "is_rejected": rejected,
            "is_precanned": precanned,
            "text_detected": False,
        }
        for n in range(count)
        for k, (rejected, precanned) in enumerate(flags[n])
    ]
    return {"info": {}, "images": images, "annotations": annotations}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val", "test"):
        content = vizwiz(split)
        put_json(tmp_path / f"annotations/{split}.json", content)
        put_photos(tmp_path / split, *[entry["file_name"] for entry in content["images"]])
    return tmp_path


def test_every_caption_is_read_as_published(root: Path):
    records = read("vizwiz", root)
    assert [(r.split, len(r.captions)) for r in records] == [
        ("train", 3), ("train", 3), ("val", 3), ("val", 3), ("test", 0), ("test", 0),
    ]  # fmt: skip
    assert records[0].captions == ("caption 0", "caption 1", PRECANNED)
    assert all(r.path.is_file() and r.path.parent.name == r.split for r in records)


def test_flags_go_with_the_captions(root: Path):
    flags = read_flags(root, "train")
    assert list(flags) == [("train", "0"), ("train", "1")]
    assert flags["train", "0"].rejected == (False, True, False)
    assert flags["train", "0"].precanned == (False, False, True)
    assert [one.text_detected for one in flags.values()] == [True, False]


def test_usable_captions_are_neither_rejected_nor_precanned(root: Path):
    records = read("vizwiz-usable", root)
    assert [(r.split, r.captions) for r in records] == [
        ("train", ("caption 0",)), ("val", ("caption 0",)), ("test", ()), ("test", ()),
    ]  # fmt: skip


def test_wrong_split_and_wrong_dataset_are_refused(root: Path):
    file = root / "annotations/train.json"
    with pytest.raises(InputError, match=r'no annotations of split "val"; found train.json'):
        read("vizwiz", file, "val")
    put_json(file, vizwiz("val"))
    with pytest.raises(InputError, match="named as split train, but its photos are of val"):
        read("vizwiz", file)
    with pytest.raises(InputError, match=r"this is VizWiz-Captions .* expected COCO captions"):
        read("coco", file)
    content = vizwiz("train")
    del content["annotations"][0]["is_rejected"]
    with pytest.raises(InputError, match='"is_rejected" is missing'):
        read_flags(put_json(file, content))


def test_flags_are_counted_in_remarks(root: Path):
    found = {one.what: one for one in remarks("vizwiz", root)}
    assert {what: one.count for what, one in found.items()} == {
        "rejected captions": 2,
        "precanned captions": 8,
        "images without a usable caption": 2,
        "images with text in them": 3,
    }
    assert found["precanned captions"].examples[:2] == ("0 (train)", "1 (train)")
    assert found["precanned captions"].advice.startswith("train 4, val 4, test 0. ")
    assert [one.count for one in remarks("vizwiz-usable", root, "test")] == [1]


def test_null_for_the_captions_is_none_in_test_and_refused_elsewhere(root: Path):
    put_json(root / "annotations/test.json", {**vizwiz("test"), "annotations": None})
    assert [r.captions for r in read("vizwiz", root, "test")] == [(), ()]
    put_json(root / "annotations/val.json", {**vizwiz("val"), "annotations": None})
    with pytest.raises(InputError, match="has no annotations"):
        read("vizwiz", root, "val")
