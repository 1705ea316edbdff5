"""COCO of 2014 and 2017: file and folder, splits and years, and the real photos."""

from pathlib import Path

import pytest

from prefixcap.datasets import coco, edition, read
from prefixcap.errors import InputError
from tests.datasets.conftest import coco_json, put_json, put_photos

CAPTIONS = {9: ["A bowl of food.", "Food in a bowl"], 25: ["A giraffe"]}


def test_folder_gives_every_split_with_photos_and_captions(coco_root):
    records = read("coco", coco_root(train=CAPTIONS, val={42: ["A shoe"]}))
    assert [(r.image_id, r.captions, r.split) for r in records] == [
        ("9", ("A bowl of food.", "Food in a bowl"), "train"),
        ("25", ("A giraffe",), "train"),
        ("42", ("A shoe",), "val"),
    ]
    assert [r.path.name for r in records][:1] == ["COCO_train2014_000000000009.jpg"]
    assert all(r.path.is_file() for r in records)


def test_years_are_told_apart(coco_root):
    coco_root(2014, val=CAPTIONS)
    root = coco_root(2017, val={7: ["A tie"]})
    assert [r.image_id for r in read("coco", root, "val2017")] == ["7"]
    assert [r.image_id for r in read("coco", root, "val2014")] == ["9", "25"]
    with pytest.raises(InputError, match=r"several annotation files per split.*with its year"):
        read("coco", root, "val")


def test_year_is_that_of_the_files_names(coco_root):
    root = coco_root(2014, val=CAPTIONS)
    assert edition("coco", root).year == 2014
    coco_root(2017, val={7: ["A tie"]}, train={8: ["A hat"]})
    assert edition("coco", root, "val2017").year == 2017
    file = root / "annotations/captions_val2017.json"
    assert edition("coco", file).year == 2017
    assert edition("coco", file.rename(root / "captions_val.json")).year is None


def test_annotation_file_finds_photos_beside_it_or_where_it_is_told(tmp_path: Path):
    content = coco_json("train", CAPTIONS)
    path = put_json(tmp_path / "captions_mine_train.json", content)
    names = [entry["file_name"] for entry in content["images"]]
    with pytest.raises(InputError, match=r"COCO_train2014_000000000009.jpg and the other 1 photos"):
        read("coco", path)
    put_photos(tmp_path / "apart/far/away/photos", *names)
    given = tmp_path / "apart/far/away/photos"
    assert read("coco", path, images=given)[0].path.parent == given
    put_photos(tmp_path / "photos", *names)
    assert read("coco", path, "train")[0].path.parent == tmp_path / "photos"
    with pytest.raises(InputError, match="not a folder"):
        read("coco", path, images=tmp_path / "nowhere")


def test_wrong_split_is_refused(coco_root):
    root = coco_root(val=CAPTIONS)
    file = root / "annotations/captions_val2014.json"
    with pytest.raises(InputError, match='holds split "val", but "train" was asked for'):
        read("coco", file, "train")
    with pytest.raises(InputError, match="no annotation file for split train; found captions_val"):
        read("coco", root, "train")
    renamed = file.rename(file.with_name("captions_train2014.json"))
    with pytest.raises(InputError, match="named as split train, but its photos are of val"):
        read("coco", renamed)


def test_wrong_split_of_2017_is_seen_by_the_links_of_its_photos(coco_root):
    """Their names are numbers, the same in every split; own files have no links."""
    root = coco_root(2017, val=CAPTIONS)
    file = root / "annotations/captions_val2017.json"
    renamed = file.rename(file.with_name("captions_train2017.json"))
    assert {record.split for record in read("coco", renamed)} == {"train"}
    content = coco_json("val", CAPTIONS, 2017)
    for entry in content["images"]:
        name = entry["file_name"]
        entry["coco_url"] = f"http://images.cocodataset.org/val2017/{name}"
    put_json(renamed, content)
    with pytest.raises(InputError, match="named as split train, but its photos are of val"):
        read("coco", renamed)
    assert {r.split for r in read("coco", put_json(file, content))} == {"val"}


def test_the_test_split_is_a_list_of_photos_without_captions(coco_root):
    root = coco_root(val=CAPTIONS)
    images = [{"id": 1, "file_name": "COCO_test2014_000000000001.jpg"}]
    path = put_json(root / "annotations/image_info_test2014.json", {"images": images})
    put_photos(root / "test2014", images[0]["file_name"])
    for source, split in ((root, "test"), (root, "test2014"), (path, None)):
        [record] = read("coco", source, split)
        assert (record.image_id, record.captions, record.split) == ("1", (), "test")
    assert {record.split for record in read("coco", root)} == {"val"}


def test_captions_alone_need_no_photos(tmp_path: Path):
    path = put_json(tmp_path / "captions_val2014.json", coco_json("val", CAPTIONS))
    assert coco.captions_by_image(path) == {one: tuple(texts) for one, texts in CAPTIONS.items()}


@pytest.mark.parametrize(
    ("split", "images", "captions"), [("train", 4_999, 25_010), ("dev", 600, 3_001)]
)
def test_real_photos_are_all_there(data_dir: Path, split: str, images: int, captions: int):
    records = read("coco", data_dir / "coco", split)
    assert (len(records), sum(len(r.captions) for r in records)) == (images, captions)
    assert all(r.path.is_file() and r.split == split for r in records)
    assert len({r.image_id for r in records}) == images


def test_real_style_photos_are_found_in_their_own_folder(data_dir: Path):
    records = read("coco", data_dir / "coco/captions_style.json")
    assert (len(records), {r.path.parent.name for r in records}) == (154, {"style_images"})
    assert all(r.path.is_file() and len(r.captions) == 5 for r in records)
