"""A folder of photos with text files beside them."""

import os
from pathlib import Path

import pytest

from prefixcap.datasets import read, remarks
from prefixcap.errors import InputError
from tests.datasets.conftest import put_photos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put_photos(tmp_path, "dog.jpg", "val/Cat.PNG", "trip/day 1/sea.jpeg", "bare.jpg")
    (tmp_path / "dog.txt").write_text("A dog.\n\n  Another  dog. \n")
    (tmp_path / "val/Cat.txt").write_text("A cat")
    (tmp_path / "trip/day 1/sea.txt").write_text("\ufeffThe sea")
    (tmp_path / "README.txt").write_text("not a caption")
    return tmp_path


def test_each_line_is_a_caption_and_first_folders_are_splits(folder: Path):
    assert {(r.image_id, r.captions, r.split) for r in read("folder", folder)} == {
        ("dog.jpg", ("A dog.", "Another dog."), "train"),
        ("val/Cat.PNG", ("A cat",), "val"),
        ("trip/day 1/sea.jpeg", ("The sea",), "train"),
        ("bare.jpg", (), "train"),
    }
    assert [r.image_id for r in read("folder", folder, "val")] == ["val/Cat.PNG"]


def test_photos_may_lie_apart_from_their_texts(folder: Path, tmp_path: Path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "dog.txt").write_text("From afar")
    records = read("folder", texts, images=folder)
    assert {r.image_id: r.captions for r in records}["dog.jpg"] == ("From afar",)


def test_folder_without_any_caption_or_photo_is_refused(tmp_path: Path):
    put_photos(tmp_path / "photos", "a/x.jpg")
    with pytest.raises(InputError, match=r"1 photos, none with captions. Expected a/x\.txt"):
        read("folder", tmp_path / "photos")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture there"):
        read("folder", tmp_path / "empty")


def test_text_whose_photo_is_gone_is_remarked(folder: Path):
    before = read("folder", folder)
    assert remarks("folder", folder) == []
    (folder / "trip/gone.txt").write_text("Something")
    (folder / "empty.txt").write_text(" \n")
    (folder / "trip/again").symlink_to(folder / "trip")
    (folder / "trip/loop").symlink_to(folder)
    assert read("folder", folder) == before
    [remark] = remarks("folder", folder)
    assert (remark.count, remark.examples) == (1, (str(folder / "trip/gone.txt"),))
    assert remarks("folder", folder, "val") == []


def test_name_that_is_not_utf_8_has_its_sidecar(tmp_path: Path):
    name = os.fsdecode(b"caf\xe9")
    try:
        put_photos(tmp_path, f"{name}.jpg")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (tmp_path / f"{name}.txt").write_text("A coffee")
    [record] = read("folder", tmp_path)
    assert (record.image_id, record.captions) == ("caf\\xe9.jpg", ("A coffee",))
