"""Where a dataset's photos are."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefixcap.datasets.photos import dataset_folder, find_image_folder
from prefixcap.errors import InputError
from tests.datasets.conftest import put_photos

NAMES = [f"{n}.jpg" for n in range(200)]


def test_folder_with_most_of_the_photos_wins(tmp_path: Path):
    put_photos(tmp_path / "few", *NAMES[:20])
    put_photos(tmp_path / "many", *NAMES[:150])
    assert find_image_folder(NAMES, tmp_path, None) == tmp_path / "many"


def test_nearer_folder_wins_over_a_fuller_one_below(tmp_path: Path):
    put_photos(tmp_path, "0.jpg")
    put_photos(tmp_path / "all", *NAMES)
    assert find_image_folder(NAMES, tmp_path, None) == tmp_path


def test_single_photo_that_the_sample_misses_is_still_found(tmp_path: Path):
    put_photos(tmp_path / "a/b", "199.jpg")
    assert find_image_folder(NAMES, tmp_path, None) == tmp_path / "a/b"


def test_no_photo_anywhere_says_what_was_looked_for(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match=r"0.jpg and the other 199 photos .* \(2 looked through\)"):
        find_image_folder(NAMES, tmp_path, None)


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("coco/annotations/captions_val2014.json", "coco"),
        ("f/Flickr8k_text/Flickr8k.token.txt", "f"),
        ("mine/captions.json", "mine"),
    ],
)
def test_photos_are_searched_beside_a_folder_of_texts(file: str, folder: str):
    assert dataset_folder(Path(file)) == Path(folder)


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes one folder, and all that is in it, refuse to be read, even by root."""

    def lock(folder: Path) -> None:
        for name in ("stat", "listdir", "scandir"):
            monkeypatch.setattr(os, name, refusing(getattr(os, name), folder, name == "stat"))

    def refusing(call: Callable[..., Any], folder: Path, only_inside: bool) -> Callable[..., Any]:
        def refused(path: Any = ".", *args: Any, **options: Any) -> Any:
            inside = folder in Path(path).parents if isinstance(path, str | Path) else False
            if inside or (str(path) == str(folder) and not only_inside):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return call(path, *args, **options)

        return refused

    return lock


def test_folder_that_may_not_be_read_is_passed_over(tmp_path: Path, locked):
    put_photos(tmp_path / "photos", "0.jpg")
    (tmp_path / "lost+found/in").mkdir(parents=True)
    locked(tmp_path / "lost+found")
    assert find_image_folder(NAMES, tmp_path, None) == tmp_path / "photos"
    with pytest.raises(InputError, match="are not in it"):
        find_image_folder(["z.jpg"], tmp_path, None)


def test_named_folder_that_may_not_be_read_raises(tmp_path: Path, locked):
    put_photos(tmp_path / "photos", "0.jpg")
    locked(tmp_path)
    with pytest.raises(PermissionError):
        find_image_folder(NAMES, tmp_path, None)


def test_name_that_no_file_can_have_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"'a\\x00\.jpg' is no name of a photo"):
        find_image_folder(["b.jpg", "a\0.jpg"], tmp_path, tmp_path)
