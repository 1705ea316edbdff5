"""Where a dataset's photos are."""

from pathlib import Path

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
