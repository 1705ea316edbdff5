"""Parquet with names of photos and with photos inside."""

import sys
from pathlib import Path

import pytest

from prefixcap.datasets import photo_source, read
from prefixcap.datasets.parquet import read_photo
from prefixcap.errors import InputError, MissingExtraError
from tests.datasets.conftest import jpeg, put_photos

pa = pytest.importorskip("pyarrow", reason='needs pip install "prefixcap[parquet]"')
parquet = pytest.importorskip("pyarrow.parquet")


def put_table(path: Path, rows: list[dict[str, object]], rows_a_group: int = 2) -> Path:
    parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=rows_a_group)
    return path


def test_names_of_photos_are_relative_to_the_file(tmp_path: Path):
    put_photos(tmp_path / "p", "a.jpg", "b.jpg")
    rows = [{"image": name, "caption": f"of {name}"} for name in ("a.jpg", "b.jpg", "a.jpg")]
    records = read("parquet", put_table(tmp_path / "t.parquet", rows))
    assert [(r.image_id, r.captions) for r in records] == [
        ("a.jpg", ("of a.jpg", "of a.jpg")),
        ("b.jpg", ("of b.jpg",)),
    ]
    assert all(r.path.is_file() for r in records)


@pytest.mark.parametrize("form", ["bytes", "struct", "img2dataset"])
def test_photos_inside_are_read_by_file_and_row(tmp_path: Path, form: str):
    def row(n: int) -> dict[str, object]:
        photo = jpeg(n)
        captions: dict[str, object] = {"captions": [f"{n}", "x"], "split": "val" if n > 2 else None}
        if form == "img2dataset":
            return {"jpg": photo, "image": photo, **captions}
        return {"image": {"bytes": photo, "path": None} if form == "struct" else photo, **captions}

    path = put_table(tmp_path / "t.parquet", [row(n) for n in range(5)])
    records = read("parquet", tmp_path)
    assert [r.path for r in records] == [path / str(n) for n in range(5)]
    assert [photo_source(r.path) for r in records] == [jpeg(n) for n in range(5)]
    assert [(r.captions, r.split) for r in records][2:4] == [
        (("2", "x"), "train"),
        (("3", "x"), "val"),
    ]
    assert len({r.image_id for r in records}) == 5


def test_row_without_a_photo_and_row_beyond_the_end_are_refused(tmp_path: Path):
    rows = [{"image": jpeg(0), "text": "a"}, {"image": None, "text": "b"}]
    path = put_table(tmp_path / "t.parquet", rows)
    with pytest.raises(InputError, match="row 1: no picture in column image"):
        read_photo(path, 1)
    with pytest.raises(InputError, match="fewer rows"):
        read_photo(path, 2)


def test_cut_off_file_and_folder_without_one_are_refused(tmp_path: Path):
    path = put_table(tmp_path / "t.parquet", [{"image": "a.jpg", "caption": "a"}])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="not a whole parquet file"):
        read("parquet", path)
    path.unlink()
    with pytest.raises(InputError, match=r"expected one \.parquet file in it, found none"):
        read("parquet", tmp_path)


def test_without_pyarrow_the_install_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = put_table(tmp_path / "t.parquet", [{"image": "a.jpg", "caption": "a"}])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r'pip install "prefixcap\[parquet\]"'):
        read("parquet", path)


def test_damaged_page_is_named_with_its_file(tmp_path: Path):
    path = put_table(tmp_path / "t.parquet", [{"image": jpeg(n), "caption": "a"} for n in range(3)])
    content = bytearray(path.read_bytes())
    content[20:600] = bytes(580)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"t\.parquet: not a whole parquet file \("):
        read_photo(path, 0)
    rows = [{"image": "a.jpg", "caption": f"a caption {n}"} for n in range(300)]
    content = bytearray(put_table(path, rows, 300).read_bytes())
    start = content.index(b"a caption")
    content[start - 20 : start + 200] = bytes(220)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"t\.parquet: not a whole parquet file \("):
        read("parquet", path)


def test_ids_of_photos_inside_are_their_own_or_their_place(tmp_path: Path):
    def row(photo: int, image_id: str | None, caption: str) -> dict[str, object]:
        return {"image": jpeg(photo), "image_id": image_id, "caption": caption}

    rows = [row(0, None, "a"), row(1, None, "b"), row(2, "x", "c"), row(2, "x", "d")]
    records = read("parquet", put_table(tmp_path / "t.parquet", rows))
    assert [r.image_id.rpartition("/")[2] for r in records] == ["0", "1", "x"]
    assert records[2].captions == ("c", "d")
    path = put_table(tmp_path / "t.parquet", [*rows, row(3, "x", "e")])
    with pytest.raises(InputError, match=r'the id "x" is of two photos, .*/2 and .*/4'):
        read("parquet", path)


def test_rows_of_one_id_are_one_record_across_files_and_only_the_first_are_compared(tmp_path: Path):
    rows = [{"image": jpeg(n // 5), "id": str(n // 5), "caption": f"c{n}"} for n in range(60)]
    put_table(tmp_path / "train-0.parquet", rows[:33])
    put_table(tmp_path / "train-1.parquet", rows[33:])
    records = read("parquet", tmp_path)
    assert [len(record.captions) for record in records] == [5] * 12
    assert records[6].captions == ("c30", "c31", "c32", "c33", "c34")
    rows[1]["image"] = jpeg(11)
    put_table(tmp_path / "train-0.parquet", rows[:33])
    with pytest.raises(InputError, match=r'the id "0" is of two photos, .*/0 and .*/1'):
        read("parquet", tmp_path)


def test_photos_of_one_id_that_files_name_apart_are_refused(tmp_path: Path):
    """However many rows there are: these are not merged."""
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    rows = [{"image": f"{n}.jpg", "id": str(n % 10), "caption": "a"} for n in range(20)]
    for part, some in enumerate((rows[:10], rows[10:])):
        put_table(tmp_path / f"train-{part}.parquet", some)
    with pytest.raises(InputError, match=r'the id "0" is of two photos, .*0\.jpg and .*10\.jpg'):
        read("parquet", tmp_path)
