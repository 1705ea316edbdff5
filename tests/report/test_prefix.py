"""Prefix words and embedding maps: shown where their files are, refused where damaged."""

import json

import pytest

from prefixcap.errors import InputError
from prefixcap.report.prefix import MAP_FILE, WORDS_FILE, map_charts, read_words, words_table


def test_words_are_read_with_their_similarity(tmp_path):
    slot = [{"text": "motorcycle", "similarity": 0.61}, {"text": "bike", "similarity": 0.5}]
    image = {"image_id": 1, "caption": "a motorcycle", "slots": [slot, []]}
    (tmp_path / WORDS_FILE).write_text(json.dumps({"images": [image], "shared": 0.25}))
    words = read_words(tmp_path)
    assert words.images[0]["slots"] == [[("motorcycle", 0.61), ("bike", 0.5)], []]
    assert (words.images[0]["image_id"], words.shared) == ("1", 0.25)


def test_a_map_has_a_mark_for_each_kind(tmp_path):
    pytest.importorskip("matplotlib")
    points = [{"kind": kind, "x": 0.5, "y": y} for y, kind in enumerate(["image", "caption"])]
    (tmp_path / MAP_FILE).write_text(json.dumps({"points": points, "method": "t-SNE"}))
    [chart] = map_charts("run", tmp_path)
    axes = chart.figure.axes[0]
    assert [line.get_label() for line in axes.lines] == ["images", "captions"]
    assert axes.get_xlabel().startswith("t-SNE")


def test_nothing_there_is_nothing_shown(tmp_path):
    assert read_words(tmp_path) is None
    assert map_charts("run", tmp_path) == []


@pytest.mark.parametrize("name", [WORDS_FILE, MAP_FILE])
def test_a_damaged_file_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text(json.dumps({"images": [{}], "points": [{"kind": "dog"}]}))
    with pytest.raises(InputError, match=name):
        read_words(tmp_path) or map_charts("run", tmp_path)


def test_what_was_measured_of_prefixes_is_a_table_and_what_was_not_is_empty(tmp_path):
    assert words_table([("plain", read_plain(tmp_path, None))]) is None
    numbers = {"images": 200, "readability": {"references": 0.314}, "sharing": {"cosine": 0.5}}
    table = words_table([("tuned", read_plain(tmp_path, numbers))])
    row = dict(zip(table.columns, (cell.text for cell in table.rows[0]), strict=True))
    assert (row["run"], row["images"], row["references"]) == ("tuned", "200", "31.4")
    assert (row["image cosine"], row["same word"]) == ("0.50", "")


def read_plain(folder, numbers):
    """Words without images, with these numbers."""
    (folder / WORDS_FILE).write_text(json.dumps({"images": [], "numbers": numbers}))
    return read_words(folder)
