"""The layout that COCO, nocaps and VizWiz share, and whose file a JSON is."""

from pathlib import Path
from typing import Any

import pytest

from prefixcap.datasets.captions_json import read_captions_json, recognise
from prefixcap.errors import InputError
from tests.datasets.conftest import coco_json, put_json

COCO = coco_json("val", {4: ["a cat", "two  cats\n"], 2: ["a dog"]})
OBJECTS = {"images": [{"id": 1}], "annotations": [{"bbox": [0, 0, 1, 1], "image_id": 1}]}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (COCO, "coco"),
        ({"images": [{"open_images_id": "x"}], "annotations": [{"caption": ""}]}, "nocaps"),
        ({"images": [{"vizwiz_url": "x"}], "annotations": [{"caption": ""}]}, "vizwiz"),
        ({"dataset": "coco", "images": [{"sentences": []}]}, "karpathy"),
        (OBJECTS, "objects"),
        ({"images": [{"id": 1, "file_name": "x"}]}, "images"),
        ({"images": 3}, "unknown"),
        ([COCO], "unknown"),
        (None, "unknown"),
    ],
)
def test_each_dataset_is_told_by_its_content(content: Any, kind: str):
    assert recognise(content) == kind


def test_captions_come_by_annotation_id_however_they_are_stored(tmp_path: Path):
    content = read_captions_json(put_json(tmp_path / "a.json", COCO), "coco")
    assert [entry["id"] for entry in content.images] == [4, 2]
    assert content.captions(4) == ("a cat", "two cats")
    assert content.captions(2) == ("a dog",)


def test_file_of_another_dataset_is_refused_with_its_name(tmp_path: Path):
    path = put_json(tmp_path / "a.json", COCO)
    with pytest.raises(
        InputError, match=r'this is COCO captions .* expected nocaps. Read it as "c'
    ):
        read_captions_json(path, "nocaps")
    with pytest.raises(InputError, match=r"without captions .* expected COCO captions"):
        read_captions_json(put_json(path, OBJECTS), "coco")


def test_ids_without_images_are_counted_and_named(tmp_path: Path):
    broken = {**COCO, "images": COCO["images"][:1]}
    with pytest.raises(InputError, match=r"captions of 1 image ids .* such as 2"):
        read_captions_json(put_json(tmp_path / "a.json", broken), "coco")


def test_image_listed_twice_is_refused(tmp_path: Path):
    broken = {**COCO, "images": COCO["images"] + COCO["images"][:1]}
    with pytest.raises(InputError, match="listed twice"):
        read_captions_json(put_json(tmp_path / "a.json", broken), "coco")


def test_file_without_annotations_only_where_that_is_how_it_is_published(tmp_path: Path):
    path = put_json(tmp_path / "a.json", {"images": [{"id": 1, "file_name": "x.jpg"}]})
    assert read_captions_json(path, "nocaps", captionless=True).captions(1) == ()
    with pytest.raises(InputError, match="a list of images without captions"):
        read_captions_json(path, "nocaps")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("images", "id", "4"),
        ("images", "file_name", None),
        ("annotations", "caption", 7),
        ("annotations", "image_id", "4"),
    ],
)
def test_wrong_type_names_the_key(tmp_path: Path, part: str, key: str, value: Any):
    broken = {**COCO, part: [{**COCO[part][0], key: value}, *COCO[part][1:]]}
    with pytest.raises(InputError, match=f'{part}: "{key}" is .* of the wrong type'):
        read_captions_json(put_json(tmp_path / "a.json", broken), "coco")


@pytest.mark.parametrize(
    ("annotations", "problem"),
    [([1, 2], "this is"), ({"caption": "x"}, "this is"), (None, "this is")],
)
def test_annotations_that_are_no_list_of_objects_are_refused(
    tmp_path: Path, annotations: Any, problem: str
):
    path = put_json(tmp_path / "a.json", {**COCO, "annotations": annotations})
    with pytest.raises(InputError, match=problem):
        read_captions_json(path, "coco")


def test_annotations_of_another_type_are_named(tmp_path: Path):
    images = [{"id": 1, "file_name": "x.jpg", "open_images_id": "x"}]
    path = put_json(tmp_path / "a.json", {"images": images, "annotations": {"caption": "x"}})
    with pytest.raises(InputError, match="annotations is a dict, expected a list"):
        read_captions_json(path, "nocaps")
