"""Maps keep near what is near, are the same with the same seed, and say what they show."""

import json
from dataclasses import replace

import numpy as np
import pytest

from prefixcap.embedding_map.page import (
    Texts,
    build_map,
    layout,
    perplexity,
    shared_neighbours,
    topics_of,
    unit,
    write_map,
)
from prefixcap.errors import InputError, MissingExtraError
from prefixcap.report.prefix import map_charts
from tests.tiny_map import heaps

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return heaps(tmp_path_factory.mktemp("map"))


@pytest.fixture(scope="module")
def content(images):
    return build_map(images, None)


def test_heaps_stay_heaps_and_the_seed_decides(images, content):
    where = np.array([(one["x"], one["y"]) for one in content["points"]])
    distances = np.linalg.norm(where[:, None] - where[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(1)
    assert (nearest % 2 == np.arange(16) % 2).all()
    assert build_map(images, None)["points"] == content["points"]
    assert content["perplexity"] == perplexity(16) == 5


@pytest.mark.parametrize(("count", "expected"), [(4, 1), (16, 5), (1000, 32), (100_000, 50)])
def test_perplexity_follows_the_size(count, expected):
    assert perplexity(count) == expected


def test_topics_are_words_of_half_the_captions_but_no_colours(images):
    names, topics = topics_of([*images.records, None])
    assert set(names) <= {"photo", "picture"} and topics[-1] == ""
    assert set(topics[:-1]) <= set(names) | {""}
    dogs = replace(images.records[0], captions=("A dog runs", "two dogs", "red grass"))
    assert topics_of([dogs]) == (["dog"], ["dog"])


def test_neighbours_are_shared_fully_with_itself_and_by_chance_with_noise():
    generator = np.random.default_rng(0)
    first, noise = (unit(generator.normal(size=(120, 6))) for _ in range(2))
    assert shared_neighbours(first, first)["share"] == 1
    found = shared_neighbours(first, noise)
    assert found["share"] == pytest.approx(found["chance"], abs=0.04)


def test_captions_of_another_space_have_a_map_of_their_own(images, tmp_path):
    texts = Texts("caption", ["a dog"] * 16, images.vectors[:, :3] + 1, False, "words of tiny")
    found = build_map(images, texts)
    assert not found["joint"]
    assert [one["kind"] for one in found["points"]] == ["image"] * 16 + ["caption"] * 16
    written = write_map(found, images, tmp_path)
    names = {path.name for path in written.files}
    assert {"map-heaps.svg", "map-heaps-captions.png", "map-heaps-photos.svg"} <= names
    page = written.page.read_text(encoding="utf-8")
    assert page.count("<figcaption>") == 3 and "words of tiny" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert len(map_charts("run", tmp_path)) == 2


def test_texts_of_the_images_space_share_the_map(images, tmp_path):
    """Far apart by a constant, as CLIP's are, and yet each among its images."""
    vectors = np.zeros((2, 8), np.float32)
    vectors[0, 0] = vectors[1, 1] = 5
    texts = Texts("text", ["even", "odd"], vectors + 9, True, "texts.npy")
    found = build_map(images, texts)
    where = np.array([(one["x"], one["y"]) for one in found["points"]])
    for place in (16, 17):
        nearest = np.linalg.norm(where[:16] - where[place], axis=1).argmin()
        assert nearest % 2 == place % 2
    charts = map_charts("run", write_map(found, images, tmp_path).page.parent)
    assert [text.get_text() for text in charts[0].figure.axes[0].texts] == ["even", "odd"]


def test_json_is_what_was_built(images, content, tmp_path):
    write_map(content, images, tmp_path)
    assert json.loads((tmp_path / "embedding-map.json").read_text(encoding="utf-8")) == content


def test_vectors_without_length_are_refused():
    with pytest.raises(InputError, match="row 1 of 2"):
        unit(np.array([[1.0, 0], [0, 0]]))


def test_umap_is_asked_for_by_name(images, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"prefixcap\[umap\]"):
        layout(images.vectors, "umap", 0)
    with pytest.raises(MissingExtraError, match=r"prefixcap\[map\]"):
        layout(images.vectors, "tsne", 0)
