"""The first photos, the best and the worst, with everybody's captions."""

from dataclasses import replace

import pytest

from prefixcap import datasets
from prefixcap.report.errors import PEOPLE
from prefixcap.report.gallery import build_gallery
from prefixcap.report.runs import Entry, read_run
from tests.tiny_report import captions_of, photos, write_run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return photos(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="module")
def entries(data, tmp_path_factory) -> list[Entry]:
    """One right model, and one that always says red."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [
        read_run(write_run(folder / name, data, captions_of(data, text)))
        for name, text in (("right", None), ("red", "a red photo"))
    ]
    return [Entry(run, run.sheets["scores-dev.json"]) for run in runs]


@pytest.fixture(scope="module")
def records(data):
    return {record.image_id: record for record in datasets.read("flickr8k", data, "dev")}


def test_the_first_photos_are_those_of_the_split_whatever_was_said(entries, records):
    gallery = build_gallery(entries, records, photos=3, extremes=0)
    assert [photo.image_id for photo in gallery.first] == list(records)[:3]
    assert gallery.first[0].references == records[gallery.first[0].image_id].captions
    assert [one.model for one in gallery.first[0].captions] == ["right", "red"]
    assert all(photo.uri.startswith("data:image/jpeg") for photo in gallery.first)
    assert gallery.extremes == []


def test_best_and_worst_are_each_model_s_own(entries, records):
    red = build_gallery(entries, records, photos=0, extremes=2).extremes[1]
    assert red.model == "red"
    assert all("red" in photo.image_id for photo in red.best)
    assert not any("red" in photo.image_id for photo in red.worst)
    values = [photo.captions[1].cider for photo in (*red.best, *red.worst)]
    assert values == sorted(values, reverse=True)


def test_of_many_models_each_best_photo_has_that_model_s_caption_alone(entries, records):
    others = [replace(entry, run=replace(entry.run, name=f"{entry.name} 2")) for entry in entries]
    gallery = build_gallery([*others, *entries], records, photos=1, extremes=1)
    assert len(gallery.first[0].captions) == 4
    assert [one.model for one in gallery.extremes[3].best[0].captions] == ["red"]


def test_mistakes_are_counted_beside_those_of_people(entries, records):
    right, red, people = build_gallery(entries, records, photos=8, extremes=0).errors
    assert (right.any_share, people.name, people.captions) == (0, PEOPLE, 8)
    assert red.shares["colour"] == 6 / 8


def test_without_the_data_there_are_captions_and_no_classes(entries):
    gallery = build_gallery(entries, {}, photos=2, extremes=1)
    assert gallery.errors == []
    assert gallery.first[0].fault
    assert gallery.first[0].captions[1].text == "a red photo"


def test_a_photo_that_cannot_be_opened_says_why(entries, records):
    first = next(iter(records.values()))
    whole = first.path.read_bytes()
    first.path.write_bytes(b"no photo")
    photo = build_gallery(entries, records, photos=1, extremes=0).first[0]
    first.path.write_bytes(whole)
    assert (photo.uri, bool(photo.fault)) == ("", True)
