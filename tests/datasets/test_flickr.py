"""Flickr8k and Flickr30k: token file, lists, photos."""

from pathlib import Path

import pytest

from prefixcap.datasets import read
from prefixcap.datasets.flickr import NO_PHOTO
from prefixcap.errors import InputError
from tests.datasets.conftest import put_photos

TOKENS = (
    "1_a.jpg#1\tA girl going into a building .\n"
    "1_a.jpg#0\tA child in a pink dress .\n"
    "2_b.jpg#0\tTwo  dogs\tplay .\n"
    "3_c.jpg#0\tA man # 1\n"
    f"{NO_PHOTO}#0\tpeople waiting for the subway\n"
)


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    text = tmp_path / "Flickr8k_text"
    text.mkdir()
    (text / "Flickr8k.token.txt").write_text(TOKENS)
    (text / "Flickr_8k.trainImages.txt").write_text("1_a.jpg\n")
    (text / "Flickr_8k.devImages.txt").write_text("2_b.jpg\n")
    put_photos(tmp_path / "Flicker8k_Dataset", "1_a.jpg", "2_b.jpg", "3_c.jpg")
    return tmp_path


def test_as_unpacked_from_the_two_archives(flickr8k: Path):
    records = read("flickr8k", flickr8k)
    assert [(r.image_id, r.captions, r.split) for r in records] == [
        ("1_a.jpg", ("A child in a pink dress .", "A girl going into a building ."), "train"),
        ("2_b.jpg", ("Two dogs play .",), "dev"),
        ("3_c.jpg", ("A man # 1",), "unlisted"),
    ]
    assert all(r.path.is_file() for r in records)
    token_file = flickr8k / "Flickr8k_text/Flickr8k.token.txt"
    assert read("flickr8k", token_file, "dev") == records[1:2]


def test_missing_list_is_named_when_its_split_is_asked_for(flickr8k: Path):
    with pytest.raises(InputError, match=r"Flickr_8k.testImages.txt: not there"):
        read("flickr8k", flickr8k, "test")
    with pytest.raises(InputError, match=r'no split "val".*dev, train, unlisted'):
        read("flickr8k", flickr8k, "val")


@pytest.mark.parametrize(
    ("listed", "problem"), [("9_z.jpg\n", "without captions"), ("1_a.jpg\n", "also in another")]
)
def test_list_of_another_dataset_or_overlapping_is_refused(
    flickr8k: Path, listed: str, problem: str
):
    (flickr8k / "Flickr8k_text/Flickr_8k.devImages.txt").write_text(listed)
    with pytest.raises(InputError, match=f"1 of 1 photos are {problem}"):
        read("flickr8k", flickr8k)


def test_cut_off_token_file_names_the_line(flickr8k: Path):
    file = flickr8k / "Flickr8k_text/Flickr8k.token.txt"
    file.write_text(TOKENS[: TOKENS.index("\tTwo")])
    with pytest.raises(InputError, match=r"line 3: '2_b.jpg#0' is not NAME"):
        read("flickr8k", flickr8k)
    file.write_text("")
    with pytest.raises(InputError, match="empty"):
        read("flickr8k", flickr8k)


def test_flickr30k_token_file_has_no_splits_until_lists_are_there(tmp_path: Path):
    lines = "".join(f"{n}.jpg#{k}\tcaption {k}\n" for n in (10, 11) for k in range(5))
    (tmp_path / "results_20130124.token").write_text(lines)
    put_photos(tmp_path / "flickr30k-images", "10.jpg", "11.jpg")
    assert [r.split for r in read("flickr30k", tmp_path)] == ["unlisted"] * 2
    (tmp_path / "train.txt").write_text("10\n")
    (tmp_path / "test.txt").write_text("11\n")
    [record] = read("flickr30k", tmp_path, "test")
    assert record.image_id == "11.jpg"
    assert record.captions == tuple(f"caption {k}" for k in range(5))


def test_real_flickr8k_is_complete(data_dir: Path):
    records = read("flickr8k", data_dir / "flickr8k")
    by_split = {split: [r for r in records if r.split == split] for split in ("train", "dev")}
    assert (len(records), len(by_split["train"]), len(by_split["dev"])) == (7_091, 6_000, 1_000)
    assert all(len(r.captions) == 5 and all(r.captions) for r in records)
    assert all(r.path.is_file() for r in records)
    assert read("flickr8k", data_dir / "flickr8k", "dev") == by_split["dev"]
