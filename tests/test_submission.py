"""What evaluation servers refuse, found in the file that would be sent."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from prefixcap.caption_results import write_results
from prefixcap.submission import how_to_submit, server_faults
from tests.tiny_split import GOOD, records

VAL = [replace(record, split="own") for record in records()]  # of no published size


def test_what_is_written_has_no_faults(tmp_path):
    write_results(tmp_path / "c.json", GOOD)
    assert server_faults(tmp_path / "c.json", "nocaps", VAL) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entries: entries.pop(3), ["1 images have no caption: 4"]),
        (
            lambda entries: entries.append({"image_id": 88, "caption": "x"}),
            ["1 images are not of the split: 88"],
        ),
        (lambda entries: entries.append(entries[1]), ["1 images have several captions: 2"]),
        (
            lambda entries: entries[0].update(image_id="1"),
            ["1 images have an id that is no whole number: 1"],
        ),
        (
            lambda entries: entries[4].update(caption=7),
            ["1 images have a caption that is no text: 5"],
        ),
        (lambda entries: entries[4].update(caption=" "), ["1 images have an empty caption: 5"]),
    ],
)
def test_each_fault_is_named(tmp_path, change, said):
    write_results(tmp_path / "c.json", GOOD)
    entries = json.loads((tmp_path / "c.json").read_text())
    change(entries)
    (tmp_path / "c.json").write_text(json.dumps(entries))
    assert server_faults(tmp_path / "c.json", "vizwiz", VAL) == said


def test_a_part_of_a_published_split_is_named(tmp_path):
    write_results(tmp_path / "c.json", GOOD)
    val = [replace(record, split="val") for record in records()]
    faults = server_faults(tmp_path / "c.json", "nocaps", val)
    assert faults == ["6 images, the whole split has 4500"]
    mixed = [*val[:3], *VAL[3:]]
    assert server_faults(tmp_path / "c.json", "coco", mixed) == ["it mixes the splits own, val"]


def test_another_file_and_other_data_are_told_apart(tmp_path):
    (tmp_path / "c.json").write_text('{"1": "a dog"}')
    assert server_faults(tmp_path / "c.json", "coco", VAL) == ["it is no list of objects"]
    assert server_faults(Path("not/there"), "flickr8k", VAL) == []


def test_a_published_split_that_the_server_does_not_score_is_named(tmp_path):
    val2017 = [replace(VAL[0], image_id=str(number), split="val") for number in range(5000)]
    write_results(tmp_path / "c.json", {record.image_id: "a dog" for record in val2017})
    faults = server_faults(tmp_path / "c.json", "coco", val2017)
    assert faults == ["5000 images, the whole split has 40504"]


def test_usable_captions_of_vizwiz_are_for_the_same_server(tmp_path):
    write_results(tmp_path / "c.json", GOOD)
    val = [replace(record, split="val") for record in records()]
    faults = server_faults(tmp_path / "c.json", "vizwiz-usable", val)
    assert faults == ["6 images, the whole split has 7750"]


def test_file_name_that_coco_wants_is_said():
    test = [replace(record, split="test") for record in records()]
    assert "captions_test2014_NAME_results.json" in how_to_submit("coco", test)
    assert "nocaps" in how_to_submit("nocaps", test)
    assert "VizWiz" in how_to_submit("vizwiz-usable", test)
    assert how_to_submit("coco", VAL) is None  # a split of one's own
    assert how_to_submit("flickr8k", test) is None
