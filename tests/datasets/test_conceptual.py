"""Conceptual Captions: the TSV joined with the photos that could still be had."""

import json
from pathlib import Path

import pytest

from prefixcap.datasets import edition, photo_source, read, remarks
from prefixcap.datasets.conceptual import manifest, read_links
from prefixcap.datasets.counts import PUBLISHED, Published, compare
from prefixcap.errors import InputError
from tests.datasets.conftest import jpeg
from tests.datasets.downloads import DEAD, LINKS, put_output, put_tsv

TSV = "Train_GCC-training.tsv"
ALIVE = [row for row in range(len(LINKS)) if row not in DEAD]


def test_each_caption_keeps_the_photo_of_its_own_link(tmp_path: Path):
    """Photos arrive in another order than the TSV's, and two rows have the same caption."""
    put_output(tmp_path / "photos")
    records = read("conceptual", put_tsv(tmp_path / TSV))
    assert [r.captions[0] for r in records] == [LINKS[row][0] for row in ALIVE]
    assert [photo_source(r.path) for r in records] == [jpeg(row) for row in ALIVE]
    assert {r.split for r in records} == {"train"}


def test_folder_of_shards_reads_the_same_without_the_tsv(tmp_path: Path):
    folder = put_output(tmp_path / "photos")
    from_tsv = read("conceptual", put_tsv(tmp_path / TSV))
    assert sorted(read("conceptual", folder), key=lambda r: r.image_id) == from_tsv


def test_splits_are_folders_or_files(tmp_path: Path):
    put_output(tmp_path / "cc3m/train")
    put_output(tmp_path / "cc3m/validation", "files")
    assert len(read("conceptual", tmp_path / "cc3m")) == 2 * len(ALIVE)
    assert {r.split for r in read("conceptual", tmp_path / "cc3m", "val")} == {"val"}
    tsv = put_tsv(tmp_path / "cc3m/Validation_GCC-1.1.0-Validation.tsv")
    [folder] = {r.path.parent.parent.name for r in read("conceptual", tsv)}
    assert folder == "validation"
    assert len({r.image_id for r in read("conceptual", tmp_path / "cc3m")}) == 2 * len(ALIVE)
    with pytest.raises(InputError, match='holds split "val", but "train" was asked for'):
        read("conceptual", tsv, "train")
    with pytest.raises(InputError, match='split "test" is not there; found train, val'):
        read("conceptual", tmp_path / "cc3m", "test")


def test_header_and_columns_of_cc12m_are_understood(tmp_path: Path):
    path = tmp_path / "cc12m.tsv"
    path.write_text("url\tcaption\n" + "".join(f"{url}\t{caption}\n" for caption, url in LINKS))
    assert [(link.caption, link.url) for link in read_links(path)] == LINKS
    assert [link.row for link in read_links(path)] == list(range(len(LINKS)))


@pytest.mark.parametrize("text", ["a cat\n", "a cat\thttp://x\tmore\n", "1.jpg#0\tA dog .\n", "\n"])
def test_row_of_another_form_is_refused(tmp_path: Path, text: str):
    path = tmp_path / TSV
    path.write_text(f"a bus\thttp://example.org\n{text}")
    with pytest.raises(InputError, match=r"line 2: .* is not caption<tab>url"):
        list(read_links(path))


def test_manifest_names_what_is_missing_and_why(tmp_path: Path):
    tsv = put_tsv(tmp_path / TSV)
    with tsv.open("a") as file:
        file.write("never tried\thttp://example.org/new.jpg\n")
    found = manifest(tsv, put_output(tmp_path / "photos", table=True))
    assert (found.found, found.missing) == (3, 3)
    assert found.reasons() == {"HTTP Error 404: Not Found": 1, "corrupt": 1, "not tried": 1}
    found.write(tmp_path / "manifest.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rows] == list(range(6))
    assert rows[0]["path"].endswith("00000.tar/000000000.jpg") and rows[1]["path"] is None


def test_manifest_without_parquet_knows_no_reasons(tmp_path: Path):
    found = manifest(put_tsv(tmp_path / TSV), put_output(tmp_path / "photos", table=False))
    assert (found.found, found.reasons()) == (3, {"not found": 2})


@pytest.mark.parametrize("rows", [5, 4, 6])
def test_rows_of_the_tsv_are_compared_with_those_published(tmp_path: Path, monkeypatch, rows: int):
    """A TSV cut at the end of a line has nothing else to show it. The photos say nothing of it."""
    known = (Published(5, 5, "a paper"),)
    monkeypatch.setitem(PUBLISHED, "conceptual", {"train": known})
    folder, tsv = put_output(tmp_path / "photos"), put_tsv(tmp_path / TSV)
    lines = [*tsv.read_text("utf-8").splitlines(True), "new\thttp://example.org/new.jpg\n"]
    tsv.write_text("".join(lines[:rows]), "utf-8")
    links, *_ = remarks("conceptual", tsv)
    assert (links.what, links.count) == ("links of the TSV", rows)
    as_published = rows == 5
    assert links.advice.startswith("As published (a paper)") == as_published
    assert links.advice.startswith("DIFFERS from the published 5") != as_published
    assert ("img2dataset tried 5 links" in links.advice) != as_published
    tried, *_ = remarks("conceptual", folder)
    assert (tried.count, tried.advice) == (5, "As published (a paper)")
    [count] = compare(edition("conceptual", tsv), read("conceptual", tsv))
    assert count.published is None


def test_tsv_without_a_last_line_end_is_remarked(tmp_path: Path):
    put_output(tmp_path / "photos")
    tsv = put_tsv(tmp_path / TSV)
    tsv.write_bytes(tsv.read_bytes()[:-3])
    assert remarks("conceptual", tsv)[-1].what == "last rows without a line end"


def test_photos_of_another_tsv_or_none_are_refused(tmp_path: Path):
    tsv = tmp_path / TSV
    tsv.write_text("another caption\thttp://example.org/bus.jpg\n")
    with pytest.raises(InputError, match=r"only links; expected one folder .* found none"):
        read("conceptual", tsv)
    put_output(tmp_path / "photos")
    with pytest.raises(InputError, match="none of its photos is in"):
        read("conceptual", tsv)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_tsv_of_another_encoding_is_refused(tmp_path: Path, encoding: str):
    path = tmp_path / TSV
    path.write_text("a caf\u00e9\thttp://example.org/1.jpg\n", encoding=encoding)
    with pytest.raises(InputError, match=rf"{TSV}: not UTF-8 .* convert it"):
        list(read_links(path))


def test_line_that_is_only_a_link_is_refused(tmp_path: Path):
    (tmp_path / TSV).write_text("http://example.org/1.jpg\n")
    with pytest.raises(InputError, match=r"line 1: .* is not caption<tab>url"):
        list(read_links(tmp_path / TSV))


def test_links_without_a_photo_are_remarked_with_their_reasons(tmp_path: Path):
    folder = put_output(tmp_path / "photos", table=True)
    _, remark = remarks("conceptual", put_tsv(tmp_path / TSV))
    assert (remark.what, remark.count) == ("links of the TSV without a photo", len(DEAD))
    assert remark.examples[0] == f"row 1: {LINKS[1][1]}: {DEAD[1][1]}"
    assert remark.advice.startswith("3 of 5 links have theirs, the others not: HTTP Error 404")
    _, remark = remarks("conceptual", folder)
    assert (remark.what, remark.count) == ("links of train without a photo", len(DEAD))
    assert set(remark.examples) == {"HTTP Error 404: Not Found: 1", "corrupt: 1"}
