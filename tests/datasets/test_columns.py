"""Columns of tables by any of their usual names."""

from pathlib import Path

import pytest

from prefixcap.datasets.columns import choose_columns, row_captions, to_records
from prefixcap.errors import InputError
from tests.datasets.conftest import put_photos

SOURCE = Path("table.csv")


@pytest.mark.parametrize(
    ("names", "image", "captions"),
    [
        (["image", "caption"], "image", ("caption",)),
        (["Caption ", "File_Name"], "File_Name", ("Caption ",)),
        (["file_name", "caption_1", "caption_0", "split"], "file_name", ("caption_0", "caption_1")),
        (["text", "path", "image"], "image", ("text",)),
        (["image", "caption_2", "caption"], "image", ("caption", "caption_2")),
        (["image", "captions", "caption"], "image", ("caption", "captions")),
        (["image", "caption", "caption.1"], "image", ("caption", "caption.1")),
        (["image", "caption_10", "caption_9"], "image", ("caption_9", "caption_10")),
        (["image", "caption_id", "caption", "text"], "image", ("caption",)),
        (["image", "caption_id", "caption_text"], "image", ("caption_text",)),
        (["image", "caption_short", "caption_long"], "image", ("caption_long", "caption_short")),
        (["image", "comment", "text"], "image", ("text",)),
    ],
)
def test_usual_names_are_found(names: list[str], image: str, captions: tuple[str, ...]):
    columns = choose_columns(names, SOURCE)
    assert (columns.image, columns.captions) == (image, captions)


@pytest.mark.parametrize(
    "names",
    [["picture", "caption"], ["image", "label"], [], ["image", "caption_id", "caption_count"]],
)
def test_other_names_are_refused_with_those_expected(names: list[str]):
    with pytest.raises(InputError, match=r"expected one for the photo \(image, .*Rename yours"):
        choose_columns(names, SOURCE)


def test_rows_of_one_photo_become_one_record_in_each_split(tmp_path: Path):
    put_photos(tmp_path, "a.jpg", "b.jpg")
    rows = [
        {"image": "a.jpg", "caption": "one", "split": "train"},
        {"image": "b.jpg", "caption": ["x", "y"], "split": None},
        {"image": "a.jpg", "caption": " two ", "split": "train"},
        {"image": "a.jpg", "caption": None, "split": "val"},
    ]
    columns = choose_columns(["image", "caption", "split"], SOURCE)
    records = to_records(enumerate(rows), columns, tmp_path / "table.csv", None)
    assert [(r.image_id, r.split, r.captions) for r in records] == [
        ("a.jpg", "train", ("one", "two")),
        ("b.jpg", "train", ("x", "y")),
        ("a.jpg", "val", ()),
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"image": "", "caption": "a"}, "row 7: no photo in column image"),
        ({"image": None, "caption": "a"}, "row 7: no photo"),
        ({"image": "a.jpg", "caption": 3}, "row 7: caption 3 is not text"),
        ({"image": "a.jpg", "caption": ["a", None]}, "row 7: caption None is not text"),
    ],
)
def test_bad_row_is_named(row: dict[str, object], problem: str):
    columns = choose_columns(["image", "caption"], SOURCE)
    with pytest.raises(InputError, match=problem):
        to_records([(7, row)], columns, SOURCE, None)


def test_table_without_rows_is_refused():
    with pytest.raises(InputError, match="no rows"):
        to_records([], choose_columns(["image", "caption"], SOURCE), SOURCE, None)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["image", "caption", "caption"], '2 columns are called "caption"'),
        (["image", "caption", "Caption "], "2 columns are called"),
        (["image", "caption", "image"], '2 columns are called "image"'),
        (["image", "id", "id", "caption"], '2 columns are called "id"'),
    ],
)
def test_columns_that_could_be_confused_are_refused(names: list[str], problem: str):
    with pytest.raises(InputError, match=problem):
        choose_columns(names, SOURCE)


@pytest.mark.parametrize(
    ("row", "captions"),
    [
        ({"caption_1": "one", "caption_2": " "}, ["one"]),
        ({"caption_1": "", "caption_2": "two"}, ["two"]),
        ({"caption_1": "one", "caption_2": "two"}, ["one", "two"]),
        ({"caption_1": "", "caption_2": ""}, [""]),
        ({"caption_1": None, "caption_2": None}, []),
    ],
)
def test_blank_cells_of_a_wide_table_count_only_where_all_are(row, captions: list[str]):
    columns = choose_columns(["image", "caption_1", "caption_2"], SOURCE)
    assert row_captions(row, columns, "row 1") == captions


def test_id_of_two_photos_is_refused_with_both(tmp_path: Path):
    put_photos(tmp_path, "a.jpg", "b.jpg")
    columns = choose_columns(["image", "id", "caption"], SOURCE)
    rows = [
        {"image": "a.jpg", "id": 1, "caption": "a dog"},
        {"image": "a.jpg", "id": 1, "caption": "a brown dog"},
        {"image": "b.jpg", "id": " ", "caption": "a cat"},
    ]
    records = to_records(enumerate(rows), columns, tmp_path / "t.csv", None)
    assert [(r.image_id, len(r.captions)) for r in records] == [("1", 2), ("b.jpg", 1)]
    rows[2]["id"], rows[2]["split"] = "1", "val"
    split = choose_columns(["image", "id", "caption", "split"], SOURCE)
    assert len(to_records(enumerate(rows), split, tmp_path / "t.csv", None)) == 2
    with pytest.raises(InputError, match=r'the id "1" is of two photos, .*a\.jpg and .*b\.jpg'):
        to_records(enumerate(rows), columns, tmp_path / "t.csv", None)
