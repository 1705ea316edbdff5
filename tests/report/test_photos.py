"""References and photos found again where they were scored, or the reason why not."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from prefixcap import datasets
from prefixcap.report.photos import RecordFinder, thumbnail
from prefixcap.report.runs import Entry, read_run
from tests.tiny_report import captions_of, photos, write_run


@pytest.fixture
def data(tmp_path) -> Path:
    return photos(tmp_path)


@pytest.fixture
def entry(tmp_path, data) -> Entry:
    run = read_run(write_run(tmp_path / "run", data, captions_of(data)))
    return Entry(run, run.sheets["scores-dev.json"])


def test_records_are_those_that_were_scored(entry, data):
    found = RecordFinder({}).find([entry])
    assert list(found.records) == list(entry.sheet.captions)
    assert found.reason == ""


def test_the_recipe_knows_the_place_where_old_scores_do_not(entry):
    del entry.sheet.facts["data"]
    assert len(RecordFinder({}).find([entry]).records) == 8


def test_a_study_s_part_of_a_recipe_is_found_by_its_table(entry, data):
    del entry.sheet.facts["data"]
    entry.sheet.facts["split"] = "test"
    entry.run.recipe.update(test=entry.run.recipe["dev"], dev=[], data=[])
    assert len(RecordFinder({}).find([entry]).records) == 8
    assert len(RecordFinder({"flickr8k": data}).find([entry]).records) == 8


def test_moved_data_are_found_where_the_user_says(entry, data, tmp_path):
    moved = data.rename(tmp_path / "elsewhere")
    gone = RecordFinder({}).find([entry])
    assert gone.records == {}
    assert "--data flickr8k=PATH" in gone.reason
    assert len(RecordFinder({"flickr8k": moved}).find([entry]).records) == 8


def test_other_references_than_those_scored_are_not_shown(entry, data):
    tokens = data / "Flickr8k.token.txt"
    tokens.write_text(tokens.read_text().replace("A red photo", "A pink photo"))
    found = RecordFinder({}).find([entry])
    assert found.records == {}
    assert "other images or references" in found.reason


def test_a_thumbnail_is_small_and_inside_the_page(data):
    record = datasets.read("flickr8k", data, "dev")[0]
    Image.new("RGB", (900, 600), (200, 30, 30)).save(record.path)
    uri = thumbnail(record, 90)
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))
    assert image.size == (90, 60)
