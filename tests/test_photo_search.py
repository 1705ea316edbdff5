"""Finding photos: what counts, in which order, under which keys."""

import io
import os
from pathlib import Path

import pytest

from prefixcap.errors import InputError
from prefixcap.photo_search import find_photo_set, find_photos

PICTURES = "a/1.jpg b/1.jpg b/deep/2.PNG b/10.jpg b/2.jpg"
OTHERS = "notes.txt b/readme.md b/.hidden.jpg b/._1.jpg .git/x.jpg __MACOSX/y.jpg"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch) -> Path:
    """Folder with pictures at several depths; it is the current folder."""
    for name in (PICTURES + " " + OTHERS).split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys(*sources: str, stdin: str = "") -> list[str]:
    return [photo.key for photo in find_photos(sources, io.StringIO(stdin))]


def test_a_folder_is_searched_recursively_without_hidden_files(tree):
    expected = ["a/1.jpg", "b/1.jpg", "b/10.jpg", "b/2.jpg", "b/deep/2.PNG"]
    assert keys(".") == expected
    assert keys(str(tree)) == expected
    assert all(photo.path.is_absolute() for photo in find_photos(["."]))


def test_files_of_one_name_in_two_folders_keep_two_keys(tree):
    assert keys("a", "b/1.jpg") == ["a/1.jpg", "b/1.jpg"]
    assert keys("a/1.jpg", "b/1.jpg") == ["a/1.jpg", "b/1.jpg"]


def test_one_folder_or_one_file_needs_no_folder_in_its_keys(tree):
    assert keys("b/deep") == ["2.PNG"]
    assert keys("b/deep/2.PNG") == ["2.PNG"]
    assert find_photo_set(["b/deep/2.PNG"]).root == tree / "b/deep"


def test_sources_keep_their_order_and_a_file_is_found_once(tree):
    assert keys("b/2.jpg", "b", "b/2.jpg", "./b/../b/2.jpg")[0] == "2.jpg"
    assert len(keys("b", "b", "b/deep", "b/**/*.jpg")) == 4


def test_patterns_match_pictures_only_and_search_matching_folders(tree):
    assert keys("b/*.jpg") == ["1.jpg", "10.jpg", "2.jpg"]
    assert keys("*/1.jpg") == ["a/1.jpg", "b/1.jpg"]
    assert keys("b/*") == ["1.jpg", "10.jpg", "2.jpg", "deep/2.PNG"]
    assert keys("**/*.PNG") == ["b/deep/2.PNG"]
    assert keys(str(tree / "b" / "*.jpg")) == ["1.jpg", "10.jpg", "2.jpg"]
    assert keys("a/../b/*.jpg", "a") == ["b/1.jpg", "b/10.jpg", "b/2.jpg", "a/1.jpg"]


def test_a_name_with_pattern_characters_is_taken_literally_where_it_exists(tree):
    (tree / "b/[1].jpg").write_bytes(b"x")
    assert keys("b/[1].jpg") == ["[1].jpg"]


def test_a_list_is_read_from_its_own_folder_then_from_the_current_one(tree):
    (tree / "b/photos.lst").write_text("\ufeff2.jpg\r\n\r\ndeep\r\n", encoding="utf-8")
    assert keys("b/photos.lst") == ["2.jpg", "deep/2.PNG"]
    (tree / "b/photos.txt").write_text("1.jpg\na/1.jpg\n")
    assert keys("b/photos.txt") == ["b/1.jpg", "a/1.jpg"]


def test_a_missing_line_of_a_list_is_kept_for_the_report(tree):
    (tree / "photos.lst").write_text("gone.jpg\na/1.jpg\n")
    assert keys("photos.lst") == ["gone.jpg", "a/1.jpg"]


def test_a_minus_reads_the_list_from_standard_input(tree):
    assert keys("-", stdin="b/2.jpg\na/1.jpg\n") == ["b/2.jpg", "a/1.jpg"]


def test_a_loop_of_links_ends_and_real_paths_win(tree):
    (tree / "b/again").symlink_to(tree, target_is_directory=True)
    (tree / "0-first").symlink_to(tree / "b", target_is_directory=True)
    assert keys(".") == ["a/1.jpg", "b/1.jpg", "b/10.jpg", "b/2.jpg", "b/deep/2.PNG"]


def test_a_linked_folder_from_elsewhere_is_searched(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "z.jpg").write_bytes(b"x")
    (tree / "a/link").symlink_to(elsewhere, target_is_directory=True)
    assert keys("a") == ["1.jpg", "link/z.jpg"]


def test_a_file_named_outright_is_taken_whatever_its_suffix(tree):
    assert keys("b/readme.md") == ["readme.md"]


def test_a_folder_that_may_not_be_listed_is_reported_not_lost(tree):
    if os.geteuid() == 0:
        pytest.skip("root may list every folder")
    (tree / "a/closed").mkdir(mode=0)
    assert keys("a") == ["1.jpg", "closed"]


def test_a_name_that_is_no_utf8_gives_a_key_that_can_be_written(tree):
    try:
        (tree / "a" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system keeps names in UTF-8")
    assert "a/caf\\xe9.jpg" in keys(".")
    assert all(key.encode() for key in keys("."))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["gone"], "gone: there is no such file or folder"),
        (["gone/*.jpg"], "matches no file"),
        (["empty"], "empty: no picture there"),
        ([], "nothing: no picture there"),
        (["-"], "standard input: the list is empty"),
    ],
)
def test_nothing_to_caption_is_one_line(tree, sources, message):
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match=message.replace("*", r"\*")) as caught:
        find_photos(sources, io.StringIO())
    assert "\n" not in str(caught.value)
