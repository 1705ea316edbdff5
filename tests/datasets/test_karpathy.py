"""Karpathy's three files."""

from pathlib import Path
from typing import Any

import pytest

from prefixcap.datasets import edition, read
from prefixcap.datasets.counts import compare
from prefixcap.errors import InputError
from tests.datasets.conftest import coco_json, put_json, put_photos


def image(split: str, name: str, *raw: str, **more: Any) -> dict[str, Any]:
    sentences = [{"tokens": t.lower().split(), "raw": t, "sentid": 0} for t in raw]
    return {"filename": name, "split": split, "sentences": sentences, "imgid": 0, **more}


def coco_image(split: str, number: int, *raw: str) -> dict[str, Any]:
    folder = "train2014" if split == "train" else "val2014"
    name = f"COCO_{folder}_{number:012d}.jpg"
    return image(split, name, *raw, filepath=folder, cocoid=number)


COCO = {
    "dataset": "coco",
    "images": [
        coco_image("test", 391895, "A man with a red helmet. ", "A man on a moped"),
        coco_image("restval", 184613, "A child holding an umbrella"),
        coco_image("train", 57870, "A restaurant"),
        coco_image("val", 522418, "A woman\ncutting a cake"),
    ],
}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    names = [f"{entry['filepath']}/{entry['filename']}" for entry in COCO["images"]]
    put_photos(tmp_path / "coco", *names)
    return put_json(tmp_path / "coco/dataset_coco.json", COCO)


def test_training_set_is_train_and_restval(coco: Path):
    train = read("coco-karpathy", coco, "train")
    assert [(r.image_id, r.split) for r in train] == [("184613", "restval"), ("57870", "train")]
    assert [r.image_id for r in read("coco-karpathy", coco, "restval")] == ["184613"]
    assert len(read("coco-karpathy", coco)) == 4


def test_raw_sentences_and_photos_in_both_folders(coco: Path):
    records = read("karpathy", coco.parent)
    assert records[0].captions == ("A man with a red helmet.", "A man on a moped")
    assert records[3].captions == ("A woman cutting a cake",)
    assert {r.path.parent.name for r in records} == {"train2014", "val2014"}
    assert all(r.path.is_file() for r in records)


def test_photos_may_lie_in_one_folder(tmp_path: Path):
    path = put_json(tmp_path / "dataset_coco.json", COCO)
    put_photos(tmp_path / "all", *[entry["filename"] for entry in COCO["images"]])
    assert {r.path.parent for r in read("karpathy", path)} == {tmp_path / "all"}
    assert all(r.path.is_file() for r in read("karpathy", path, images=tmp_path / "all"))


def test_flickr_files_use_names_as_ids(tmp_path: Path):
    content = {"dataset": "flickr8k", "images": [image("val", "2_b.jpg", "Two dogs")]}
    path = put_json(tmp_path / "dataset_flickr8k.json", content)
    put_photos(tmp_path / "Flicker8k_Dataset", "2_b.jpg")
    [record] = read("flickr8k-karpathy", path, "val")
    assert (record.image_id, record.path.is_file()) == ("2_b.jpg", True)
    with pytest.raises(InputError, match="splits of flickr8k, expected those of coco"):
        read("coco-karpathy", path)
    with pytest.raises(InputError, match=r'no split "train".*has: val'):
        read("karpathy", path, "train")


def test_other_files_are_refused(tmp_path: Path):
    path = put_json(tmp_path / "dataset_coco.json", coco_json("val", {1: ["a"]}))
    with pytest.raises(
        InputError, match=r"this is COCO captions, expected Karpathy's .* Read it as"
    ):
        read("coco-karpathy", path)
    with pytest.raises(InputError, match=r"expected one dataset_flickr8k.json, found none"):
        read("flickr8k-karpathy", tmp_path)
    unknown = {"dataset": "coco", "images": [coco_image("trainval", 1, "a")]}
    with pytest.raises(InputError, match="split 'trainval' is none of"):
        read("karpathy", put_json(path, unknown))


@pytest.mark.parametrize(
    ("dataset", "images"), [("flickr30k", 1_014), ("flickr8k", 1_000), ("mine", None)]
)
def test_counts_are_those_of_the_dataset_that_the_file_names(tmp_path: Path, dataset, images):
    """1,000 of Flickr30k's 1,014 validation images are no whole Flickr8k."""
    content = {"dataset": dataset, "images": [image("val", f"{n}.jpg") for n in range(1_000)]}
    path = put_json(tmp_path / f"dataset_{dataset}.json", content)
    put_photos(tmp_path, "0.jpg")
    [count] = compare(edition("karpathy", path), read("karpathy", path))
    assert (count.published and count.published.images) == images
