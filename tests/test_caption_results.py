"""Captions files: what is read, how it meets the records, what is refused, what is written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from prefixcap.caption_files import RecordFile
from prefixcap.caption_results import (
    FiledCaption,
    is_captions_file,
    match_captions,
    read_results,
    refuse_repeated_records,
    write_results,
)
from prefixcap.datasets.parquet import has_pyarrow
from prefixcap.errors import InputError
from tests.tiny_split import GOOD, records


def filed(captions: dict[str, str]) -> list[FiledCaption]:
    """Captions as a file would give them."""
    return [FiledCaption(key, text) for key, text in captions.items()]


def test_what_is_written_is_cocos_format_and_reads_back_the_same(tmp_path):
    odd = {**GOOD, "2": 'said "two"\u2028cats\n', "3": ""}
    write_results(tmp_path / "c.json", odd)
    entries = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert entries[1] == {"image_id": 2, "caption": odd["2"]}
    assert all(set(entry) == {"image_id", "caption"} for entry in entries)
    matched = match_captions(read_results(tmp_path / "c.json"), records())
    assert matched.captions == odd
    assert matched.counts == {"missing": 0, "extra": 0, "repeated": 0}


@pytest.mark.parametrize("key", ["a.jpg", "007", "1²"])
def test_ids_stay_texts_where_one_is_no_plain_number(tmp_path, key):
    write_results(tmp_path / "c.json", {"1": "x", key: "y"})
    ids = [entry["image_id"] for entry in json.loads((tmp_path / "c.json").read_text("utf-8"))]
    assert ids == ["1", key]


def test_json_lines_are_matched_by_file_name_and_in_any_order(tmp_path):
    lines = [
        {"path": f"some/folder/COCO_{int(key):06}.jpg", "caption": text, "score": -1.0}
        for key, text in reversed(GOOD.items())
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    matched = match_captions(read_results(tmp_path / "c.jsonl"), records())
    assert list(matched.captions.items()) == list(GOOD.items())


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_what_prefixcap_caption_writes_is_read(tmp_path, suffix):
    if suffix == ".parquet" and not has_pyarrow():
        pytest.skip("needs the extra parquet")
    texts = {**GOOD, "2": 'two "cats",\nasleep', "3": ""}
    path = tmp_path / f"c{suffix}"
    with RecordFile(path, ("path", "caption", "score", "caption_2")) as file:
        for key, text in texts.items():
            record = {"path": f"COCO_{int(key):06}.jpg", "caption": text, "score": -1.0}
            file.append([record | {"caption_2": "another"}])
        file.finish()
    assert match_captions(read_results(path), records()).captions == texts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.csv", "Image_ID,Text\n1,a dog\n2,two cats\n"),
        ("c.tsv", "filename\tsentence\nCOCO_000001.jpg\ta dog\nCOCO_000002.jpg\ttwo cats\n"),
        ("c.json", '{"1": "a dog", "2": "two cats"}'),
        ("c.json", '[{"id": 1, "text": "a dog"}, {"file_name": "2", "caption": "two cats"}]'),
    ],
)
def test_other_common_forms_are_read(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    found = match_captions(read_results(tmp_path / name), records()).captions
    assert found == {"1": "a dog", "2": "two cats"}


def test_a_table_row_of_another_width_is_named(tmp_path):
    (tmp_path / "c.csv").write_text("image_id,caption\n1,a dog\n2,cats, two\n")
    with pytest.raises(InputError, match="entry 2: has another number of cells"):
        read_results(tmp_path / "c.csv")


def test_a_name_that_ends_as_a_captions_file_has_to_be_one(tmp_path):
    assert not is_captions_file("mini")
    assert not is_captions_file(str(tmp_path))
    with pytest.raises(InputError, match="no such captions file"):
        is_captions_file(str(tmp_path / "c.json"))


def test_one_file_name_in_two_folders_is_told_apart_by_the_path():
    one, two = records()[:2]
    both = [replace(one, path=Path("x/a/0.jpg")), replace(two, path=Path("x/b/0.jpg"))]
    matched = match_captions(filed({"b/0.jpg": "second", "0.jpg": "whose?"}), both)
    assert matched.captions == {"2": "second"}
    assert (matched.missing, matched.extra) == (["1"], ["0.jpg"])


def test_missing_extra_and_repeated_ids_are_named_in_one_error():
    entries = filed({**GOOD, "99": "nothing"})[1:] + filed({"3": "again"})
    matched = match_captions(entries, records())
    assert matched.captions["3"] == GOOD["3"]  # the first one
    assert matched.counts == {"missing": 1, "extra": 1, "repeated": 1}
    with pytest.raises(InputError) as error:
        matched.refuse_doubts("c.json")
    for said in ("c.json", "caption: 1;", "split: 99;", "more than one caption: 3.", "--allow-mi"):
        assert said in str(error.value)


def test_a_whole_file_is_not_refused():
    match_captions(filed(GOOD), records()).refuse_doubts("c.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"annotations": []}', "dict"),
        ("[]", "no captions"),
        ('[{"image_id": 1}]', "entry 1"),
        ('[{"image_id": 1, "caption": 5}]', "no text"),
        ('[{"image_id": true, "caption": "x"}]', "names no image"),
        ('[{"caption": "x"}]', "names no image"),
        ('["a dog"]', "names no image"),
        ('[{"image_id": 1, "capt', "not whole JSON"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path, content, said):
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(InputError, match=said) as error:
        read_results(path)
    assert str(path) in str(error.value)


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"image_id": 1, "caption": "x"}\n\n{"image_id"\n')
    with pytest.raises(InputError, match="line 3"):
        read_results(path)


def test_ids_that_stand_for_two_photos_are_refused():
    refuse_repeated_records(records())
    with pytest.raises(InputError, match="--split"):
        refuse_repeated_records(records() + records()[:1])
