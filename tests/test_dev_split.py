"""How a tiny captioner is judged on dev photos: its loss, its captions, by which one is kept."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prefixcap import datasets
from prefixcap.batches import read_dev_sources
from prefixcap.board import Board
from prefixcap.caption_results import match_captions, read_results
from prefixcap.captioner import Captioner
from prefixcap.dev_split import DevSplit, stored_captions, stored_records
from prefixcap.embeddings import EmbeddingStore, StoreItem
from prefixcap.errors import InputError
from prefixcap.evaluate import score_captions
from prefixcap.model import CaptionBatch
from prefixcap.recipe import load_recipe
from prefixcap.report.log import read_log
from prefixcap.run_folder import RunFolder
from prefixcap.store_build import build_store
from tests.tiny_captioner import save_tiny_model
from tests.tiny_run import caption_recipe, write_photos


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folder with photos and a model."""
    folder = tmp_path_factory.mktemp("world")
    write_photos(folder / "data", split_at=18)
    save_tiny_model(folder / "model")
    return folder


@pytest.fixture(scope="module")
def captioner(world) -> Captioner:
    return Captioner.from_pretrained(world / "model", device="cpu", dtype=torch.float32)


def dev_split(world, captioner, name, *settings) -> DevSplit:
    """The six dev photos, judged for a recipe with these settings."""
    path = world / "tiny.toml"
    path.write_text(caption_recipe(world / "data"))
    recipe = load_recipe(path, [f"name={name}", *settings])
    encode = captioner.model.tokenizer.encode
    run = RunFolder(world / "runs" / name, recipe)
    parts = read_dev_sources(recipe.dev)
    return DevSplit(recipe, run, parts, lambda r: [encode(text) for text in r.captions])


def dev_captions(split: DevSplit) -> list[Path]:
    """The files of a run's dev captions, by step."""
    return sorted((split.run.path / "dev_captions").iterdir())


def test_dev_loss_is_the_mean_over_all_tokens_of_all_captions(world, captioner):
    split = dev_split(world, captioner, "loss", "train.best_by=loss")
    values = split.scores(captioner, 1)
    [records] = split.parts
    total, count = 0.0, 0
    for record in records:
        embedding = captioner.embed([record.path])
        for ids in split.token_ids(record):
            batch = CaptionBatch(embedding, torch.tensor([ids]), torch.tensor([0]))
            with torch.no_grad():
                loss, tokens = captioner.model.loss(batch)
            total, count = total + float(loss), count + tokens
    assert values["dev_loss"] == pytest.approx(total / count, rel=1e-4)
    assert values["score"] == -values["dev_loss"]


def test_the_best_goes_by_cider_unless_told_otherwise(world, captioner):
    values = dev_split(world, captioner, "cider").scores(captioner, 1)
    assert values["score"] == values["flickr8k CIDEr"]


def test_a_language_model_alone_is_judged_by_its_loss_without_a_photo(world, captioner):
    split = dev_split(world, captioner, "language", 'stage="language"')
    values = split.scores(captioner, 1)
    assert values.keys() == {"dev_loss", "score"}
    assert values["score"] == -values["dev_loss"]
    assert math.isfinite(values["score"])


def test_stored_embeddings_give_the_captions_and_the_loss_of_the_photos(world, captioner):
    opened = dev_split(world, captioner, "opened")
    [records] = opened.parts
    items = [StoreItem(record.image_id, record.path) for record in records]
    build_store(world / "store", captioner.encoder, items)
    stored = dev_split(world, captioner, "stored", f'store="{world}/store"')
    expected, found = (split.scores(captioner, 1) for split in (opened, stored))
    assert found["dev_loss"] == pytest.approx(expected["dev_loss"], rel=1e-3)  # float16 is stored
    store = EmbeddingStore(world / "store")
    assert stored_records(records, store) == list(records)
    assert stored_records(records, None) == []
    captions = stored_captions(captioner, records, opened.recipe.decoding, store)
    assert captions.keys() == {record.image_id for record in records}


def test_dev_photos_that_cannot_be_read_are_said_once_and_named(world, captioner, tmp_path):
    notes = []
    split = dev_split(world, captioner, "unread")
    split.note = notes.append
    [records] = split.parts
    gone = replace(records[1], path=tmp_path / "gone.jpg")
    split.parts = [[records[0], gone, *records[2:]]]
    for step in (1, 2):
        split.scores(captioner, step)
    [note] = notes
    assert note.startswith(f"1 photos of [[dev]] are not judged by, such as {gone.path}: ")
    lines = [json.loads(line) for line in (split.run.path / "log.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in lines] == [gone.image_id]


def test_dev_photos_that_the_store_lacks_are_said_too(world, captioner, tmp_path):
    [records] = dev_split(world, captioner, "some").parts
    items = [StoreItem(record.image_id, record.path) for record in records[1:]]
    build_store(tmp_path / "store", captioner.encoder, items)
    split, notes = dev_split(world, captioner, "lacks", f'store="{tmp_path}/store"'), []
    split.note = notes.append
    split.scores(captioner, 1)
    [note] = notes
    missing = records[0].image_id
    assert note.startswith(f"1 photos of [[dev]] are not judged by, such as {missing} is not in ")
    assert read_log(split.run.path / "log.jsonl").left_out == 1


def test_captions_of_a_validation_are_a_file_that_evaluate_takes(world, captioner):
    split = dev_split(world, captioner, "kept")
    values = split.scores(captioner, 7)
    assert [path.name for path in dev_captions(split)] == ["step-00000007.json"]
    published = datasets.read("flickr8k", world / "data", "dev")
    found = match_captions(read_results(dev_captions(split)[0]), published)
    assert set(found.counts.values()) == {0}
    scores = score_captions(found.captions, published, ("cider", "bleu")).corpus
    assert scores["CIDEr"] == pytest.approx(values["flickr8k CIDEr"])
    source = f'{{format="flickr8k", path="{world}/data", split="dev"}}'
    twice = dev_split(world, captioner, "twice", f"dev=[{source}, {source}]")
    twice.scores(captioner, 7)
    names = [f"step-00000007-{number}-flickr8k.json" for number in (0, 1)]
    assert [path.name for path in dev_captions(twice)] == names


def test_captions_of_steps_that_are_taken_again_are_forgotten(world, captioner):
    split = dev_split(world, captioner, "again")
    for step in (0, 3, 6, 9):
        split.scores(captioner, step)
    for name in ("step-00000003", "step-00000006"):
        (split.run.path / "checkpoints" / name).mkdir(parents=True)
    dev_split(world, captioner, "again")
    kept = [f"step-{step:08d}.json" for step in (0, 3, 6)]
    assert [path.name for path in dev_captions(split)] == kept


@pytest.mark.parametrize("change", [{"captions": ()}, {"path": Path("gone.jpg")}])
def test_a_dev_source_that_nothing_can_be_judged_by_is_refused(world, captioner, change):
    split = dev_split(world, captioner, "nothing")
    [records] = split.parts
    parts = [[replace(record, **change) for record in records]]
    with pytest.raises(InputError, match="nothing could be judged by it"):
        DevSplit(split.recipe, split.run, parts, split.token_ids)


def test_the_board_shows_the_first_photos_with_their_captions(world, captioner):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    split = dev_split(world, captioner, "board", "train.tensorboard=true")
    assert isinstance(split.run.board, Board)
    shown = []
    split.run.board.samples = lambda step, samples: shown.extend((step, s) for s in samples)
    split.scores(captioner, 5)
    assert [step for step, _ in shown] == [5] * 4
    assert shown[0][1].pixels.shape == (32, 32, 3)
    assert shown[0][1].reference == split.parts[0][0].captions[0]
