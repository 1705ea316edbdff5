"""CSV, TSV and JSON lines."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcap.datasets import read, remarks
from prefixcap.datasets.records import CaptionRecord, clean_caption
from prefixcap.errors import InputError
from tests.datasets.conftest import put_photos

TABLE = (
    'image,caption,split\na.jpg,"A dog, running ""fast""",train\n\nb.jpg,Two cats\u2028here,val\n'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put_photos(tmp_path / "images", "a.jpg", "b.jpg")
    return tmp_path


def facts(records: list[CaptionRecord]) -> list[tuple[str, tuple[str, ...], str]]:
    assert all(record.path.is_file() for record in records)
    return [(record.image_id, record.captions, record.split) for record in records]


EXPECTED = [
    ("a.jpg", ('A dog, running "fast"',), "train"),
    ("b.jpg", ("Two cats\u2028here",), "val"),
]


def test_csv_with_quotes_commas_and_odd_line_ends(folder: Path):
    for ends in ("\n", "\r\n"):
        (folder / "mine.csv").write_bytes(("\ufeff" + TABLE).replace("\n", ends).encode())
        assert facts(read("csv", folder)) == EXPECTED
    assert facts(read("csv", folder / "mine.csv", "val")) == EXPECTED[1:]


def test_tsv_takes_quotes_as_they_are(folder: Path):
    (folder / "mine.tsv").write_text('image\tcaption\na.jpg\tThe "best" dog\na.jpg\t5" wide\n')
    assert facts(read("tsv", folder)) == [("a.jpg", ('The "best" dog', '5" wide'), "train")]


def test_captions_of_every_column_are_read(folder: Path):
    (folder / "mine.csv").write_text("image,caption,caption_2\na.jpg,one,two\nb.jpg,three,\n")
    assert [r.captions for r in read("csv", folder)] == [("one", "two"), ("three",)]
    (folder / "m.jsonl").write_text('{"image": "a.jpg", "captions": ["two"], "caption": "one"}')
    assert [r.captions for r in read("jsonl", folder)] == [("one", "two")]


def test_json_lines_with_one_or_many_captions_and_ids(folder: Path):
    rows = [
        {"file_name": "a.jpg", "captions": ["one", "two"], "image_id": 17},
        {"file_name": "b.jpg", "captions": "three\u2028", "split": "val"},
    ]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "metadata.jsonl").write_text(text)
    assert facts(read("jsonl", folder)) == [
        ("17", ("one", "two"), "train"),
        ("b.jpg", ("three\u2028",), "val"),
    ]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_any_text_survives_a_csv(tmp_path_factory: pytest.TempPathFactory, captions: list[str]):
    folder = tmp_path_factory.mktemp("csv")
    put_photos(folder, "a.jpg")
    with (folder / "t.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [("image", "caption"), ("a.jpg", "first"), *(("a.jpg", c) for c in captions)]
        )
    [record] = read("csv", folder)
    assert record.captions == ("first", *map(clean_caption, captions))


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("csv", "image,caption\na.jpg,one\nb.jpg\n", r"row 3: 1 cells, the header has 2"),
        ("csv", "image,caption\na.jpg,one, two\n", r"row 2: 3 cells"),
        ("csv", 'image,caption\na.jpg,"one\n', "not a whole table"),
        ("csv", "", "empty"),
        ("csv", "image,caption\n", "no rows"),
        ("tsv", "a.jpg\tA dog\n", "columns a.jpg, A dog; expected one for the photo"),
        ("jsonl", '{"image": "a.jpg", "caption": "x"}\n{"image": "b.j', "line 2: not whole JSON"),
        ("jsonl", '["a.jpg", "x"]\n', "line 1: a list, expected an object"),
        ("csv", "image,caption,caption\na.jpg,one,two\n", '2 columns are called "caption"'),
        ("csv", "image,id,caption\na.jpg,1,x\nb.jpg,1,y\n", 'the id "1" is of two photos'),
        ("csv", "image,caption\na.jpg,one\nb\0.jpg,two\n", "is no name of a photo"),
        ("jsonl", '{"image": "a.jpg", "caption": "x", "caption": "y"}', '1: "caption" is twice'),
        ("csv", "image,caption\nz.jpg,one\n", "z.jpg and the other 0 photos are not in it"),
    ],
)
def test_bad_tables_are_refused_in_one_line(folder: Path, name: str, text: str, problem: str):
    (folder / f"mine.{name}").write_text(text)
    with pytest.raises(InputError, match=problem) as caught:
        read(name, folder)
    assert "\n" not in str(caught.value)


def test_folder_with_no_or_several_tables_is_refused(folder: Path):
    with pytest.raises(InputError, match=r"expected one \.csv file in it, found none"):
        read("csv", folder)
    (folder / "a.csv").touch()
    (folder / "b.csv").touch()
    with pytest.raises(InputError, match=r"found a\.csv, b\.csv"):
        read("csv", folder)


@pytest.mark.parametrize(("name", "sign"), [("csv", ","), ("tsv", "\t")])
def test_table_cut_within_its_last_row_is_remarked(tmp_path: Path, name: str, sign: str):
    """All its cells are there, so that it is read; the last caption is half."""
    put_photos(tmp_path, "a.jpg")
    path = tmp_path / f"mine.{name}"
    path.write_text(f"image{sign}caption\na.jpg{sign}A dog\na.jpg{sign}A brown dog\n")
    assert remarks(name, tmp_path) == []
    path.write_bytes(path.read_bytes()[:-7])
    [record] = read(name, path)
    assert record.captions == ("A dog", "A bro")
    [remark] = remarks(name, tmp_path)
    assert (remark.what, remark.count) == ("last rows without a line end", 1)
    assert remark.examples[0].endswith("A bro'") and "cut off" in remark.advice
