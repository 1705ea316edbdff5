"""Numbers over a split: from photos or from a run's store, the same as of the parts."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prefixcap import datasets
from prefixcap.embeddings import EmbeddingStore, StoreItem, begin_store, finish_store
from prefixcap.errors import InputError
from prefixcap.explain.numbers import readability, sharing
from prefixcap.explain.split import (
    Source,
    explain_split,
    numbers,
    open_source,
    stored_rows,
    write_words,
)
from prefixcap.report.prefix import read_words, words_table
from prefixcap.store_shards import write_shard
from tests.test_lstm import captioner_model
from tests.tiny_captioner import save_tiny_model
from tests.tiny_explained import patch_captioner
from tests.tiny_run import write_photos


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return datasets.read("flickr8k", write_photos(tmp_path_factory.mktemp("photos")), "dev")[:5]


@pytest.fixture(scope="module")
def captioner():
    return patch_captioner()


def test_numbers_are_those_of_all_images_together(captioner, records):
    told = []
    found = explain_split(Source(captioner, None), records, told.append)
    embeddings = captioner.embed([record.path for record in records])
    with torch.inference_mode():
        prefixes = captioner.model.prefix(embeddings)
    assert told == [5]
    assert found.sharing.between == pytest.approx(sharing(prefixes).between, abs=1e-5)
    words = captioner.model.lm.get_input_embeddings().weight
    texts = [one.text for one in captioner.caption([record.path for record in records])]
    references = [record.captions for record in records]
    assert found.readability == readability(found.words, texts, references, words)
    facts = numbers(found)
    assert (facts["images"], facts["prefix_length"]) == (5, 3)
    assert facts["sharing"]["log_prob"] == pytest.approx(np.mean(found.log_prob))


def test_what_is_written_is_what_a_report_reads(captioner, records, tmp_path):
    found = explain_split(Source(captioner, None), records)
    assert write_words(found, tmp_path / "run").name == "prefix-words.json"
    words = read_words(tmp_path / "run")
    assert [one["caption"] for one in words.images] == [one.text for one in found.captions]
    assert words.images[0]["slots"][1][0][0] == found.words[0][1][0].text
    assert words_table([("tuned", words)]).rows[0][1].text == "5"


def test_a_run_with_a_store_is_read_from_it(captioner, records, tmp_path):
    """Its vectors are not those of the photos, so that the difference would show."""
    store = write_store(captioner, records, tmp_path / "store", scale=-1.0)
    found = explain_split(Source(captioner, store), records)
    embeddings = -captioner.embed([record.path for record in records])
    with torch.inference_mode():
        expected = sharing(captioner.model.prefix(embeddings.half().float()))
    assert found.sharing.cosine == pytest.approx(expected.cosine, abs=1e-3)
    missing = SimpleNamespace(image_id="elsewhere.jpg")
    assert stored_rows(store, [*records, missing]) is None
    assert stored_rows(store, records[2:4]) == [3, 4]


def write_store(captioner, records, folder, scale):
    """A store of the records as a recipe's dev source, after a training photo."""
    ids = ["0-flickr8k/train.jpg", *(f"dev-0-flickr8k/{one.image_id}" for one in records)]
    vectors = scale * captioner.embed([records[0].path, *(one.path for one in records)]).numpy()
    begin_store(folder, captioner.encoder, [StoreItem(one, folder) for one in ids])
    write_shard(folder, 0, dict(zip(ids, vectors.astype(np.float16), strict=True)), {}, {})
    finish_store(folder, 1, captioner.encoder)
    return EmbeddingStore(folder)


def test_unreadable_photos_are_left_out_and_one_image_is_too_few(captioner, records, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    bad = datasets.CaptionRecord("broken", broken, ("a dog",), "dev")
    found = explain_split(Source(captioner, None), [*records[:2], bad])
    assert [one.key for one in found.skipped] == ["broken"]
    assert len(found.captions) == 2
    with pytest.raises(InputError, match="1 images can be read"):
        explain_split(Source(captioner, None), [records[0], bad])


def test_a_model_is_opened_with_its_runs_store(captioner, records, tmp_path):
    run = tmp_path / "run"
    save_tiny_model(run / "model")
    recipe = {
        "name": "tiny",
        "stage": "caption",
        "data": [{"format": "flickr8k", "path": "nowhere"}],
        "encoder": {"kind": "clip", "name": "openai/clip-vit-base-patch32"},
        "store": str(tmp_path / "store"),
    }
    (run / "recipe.json").write_text(json.dumps(recipe))
    assert open_source(str(run)).store is None  # not built
    write_store(captioner, records, tmp_path / "store", 1.0)
    assert len(open_source(str(run)).store) == 6
    assert open_source(str(run)).captioner.model.config.mapper.kind == "linear"


def test_a_stated_encoder_needs_the_store(tmp_path):
    run = tmp_path / "run"
    save_tiny_model(run / "model")
    encoder = {"kind": "clip", "name": "openai/clip-vit-base-patch32", "stated_dim": 16}
    recipe = {
        "name": "tiny",
        "stage": "caption",
        "data": [{"format": "flickr8k", "path": "nowhere"}],
        "encoder": encoder,
        "store": str(tmp_path / "store"),
    }
    (run / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(InputError, match="Build the store"):
        open_source(str(run))


def test_an_lstm_has_no_prefix(tmp_path):
    captioner_model().save_pretrained(tmp_path / "lstm")
    with pytest.raises(InputError, match="has no prefix"):
        open_source(str(tmp_path / "lstm"))
