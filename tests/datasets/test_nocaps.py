"""nocaps with its domains."""

from pathlib import Path
from typing import Any

import pytest

from prefixcap.datasets import read
from prefixcap.errors import InputError
from tests.datasets.conftest import coco_json, put_json, put_photos

DOMAINS = ("in-domain", "near-domain", "out-domain")


def nocaps(captions: bool = True, domain: str | None = None) -> dict[str, Any]:
    images = [
        {
            "id": n,
            "open_images_id": f"0013ea20870209{n:02d}",
            "file_name": f"0013ea20870209{n:02d}.jpg",
            "coco_url": "",
            "domain": domain or DOMAINS[n % 3],
        }
        for n in range(6)
    ]
    annotations = [
        {"image_id": n, "id": 10 * n + k, "caption": f"caption {k} of {n}"}
        for n in range(6)
        for k in range(10)
    ]
    content: dict[str, Any] = {"licenses": [], "info": {}, "images": images}
    return {**content, "annotations": annotations} if captions else content


def test_validation_set_has_ten_captions_and_a_domain_each(tmp_path: Path):
    path = put_json(tmp_path / "nocaps_val_4500_captions.json", nocaps())
    put_photos(tmp_path / "val", *[entry["file_name"] for entry in nocaps()["images"]])
    records = read("nocaps", path)
    assert [r.domain for r in records] == list(DOMAINS) * 2
    assert {(r.split, len(r.captions)) for r in records} == {("val", 10)}
    assert records[5].captions[9] == "caption 9 of 5"
    assert all(r.path.is_file() for r in records)
    assert read("nocaps", tmp_path, "val") == records


def test_file_with_captions_goes_before_the_list_of_images(tmp_path: Path):
    put_photos(tmp_path / "val", *[entry["file_name"] for entry in nocaps()["images"]])
    put_json(tmp_path / "nocaps_val_image_info.json", nocaps(captions=False))
    with pytest.raises(InputError, match="has no annotations"):
        read("nocaps", tmp_path, "val")
    put_json(tmp_path / "nocaps_val_4500_captions.json", nocaps())
    assert all(r.captions for r in read("nocaps", tmp_path, "val"))


def test_test_set_is_published_without_captions(tmp_path: Path):
    path = put_json(tmp_path / "nocaps_test_image_info.json", nocaps(captions=False))
    put_photos(tmp_path / "test", *[entry["file_name"] for entry in nocaps()["images"]])
    assert {(r.split, r.captions) for r in read("nocaps", path)} == {("test", ())}
    with pytest.raises(InputError, match=r'no file of split "val"; found nocaps_test_image_info'):
        read("nocaps", tmp_path, "val")


def test_coco_file_and_unknown_domain_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"this is COCO captions .* expected nocaps"):
        read("nocaps", put_json(tmp_path / "a.json", coco_json("val", {1: ["a"]})))
    with pytest.raises(InputError, match="domains far, expected in-domain"):
        read("nocaps", put_json(tmp_path / "a.json", nocaps(domain="far")))
