"""LSTM captioners in all that was made for ClipCap: folders, tuning, calibration, rewards."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prefixcap.batches import read_dev_sources
from prefixcap.captioner import Captioner
from prefixcap.cli import main as cli
from prefixcap.config import DecodeOptions
from prefixcap.lstm import LstmCaptioner
from prefixcap.recipe import SourceConfig
from prefixcap.tuning import Grid, tune
from tests.small_recipes import train_small
from tests.test_lstm import captioner_model
from tests.test_lstm_recipes import SHOW_TELL, small, world
from tests.tiny_run import write_photos

__all__ = ["world"]  # the fixture


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Flickr8k in small."""
    return write_photos(tmp_path_factory.mktemp("data") / "flickr8k")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Folder of a tiny attention LSTM."""
    captioner_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_gets_the_captions_of_its_photos_and_is_continued(model, data, tmp_path):
    out = tmp_path / "captions.jsonl"
    words = ["caption", str(data / "images"), "--model", str(model), "--out", str(out)]
    assert cli.main(words) == 0
    written = out.read_text()
    found = {line["path"]: line["caption"] for line in map(json.loads, written.splitlines())}
    captioner = Captioner.from_pretrained(model)
    photos = sorted((data / "images").iterdir())
    assert [found[photo.name] for photo in photos] == [c.text for c in captioner.caption(photos)]
    out.write_text("".join(written.splitlines(keepends=True)[:5]))
    assert cli.main(words) == 0
    assert out.read_text() == written


def test_tuning_finds_the_decoding_that_wrote_the_references(model, data):
    captioner = Captioner.from_pretrained(model)
    [records] = read_dev_sources([SourceConfig(format="flickr8k", path=str(data), split="dev")])
    goal = DecodeOptions(beam_size=2, order="sum", min_tokens=3, max_tokens=5, stop="end")
    photos = [record.path for record in records]
    texts = [caption.text for caption in captioner.caption(photos, goal)]
    wanted = [
        replace(record, captions=(text,)) for record, text in zip(records, texts, strict=True)
    ]
    tuning = tune(captioner, wanted, Grid((1, 2), (1.0,), (0, 3)))
    assert [c.text for c in captioner.caption(photos, tuning.best.options)] == texts
    assert tuning.best.cider > min(trial.cider for trial in tuning.trials)


def test_calibration_is_stored_and_shown(model, data, monkeypatch):
    monkeypatch.setattr("prefixcap.calibration.LEAST_IMAGES", 8)
    assert cli.main(["calibrate", str(model), "flickr8k", str(data), "--split", "dev"]) == 0
    captioner = Captioner.from_pretrained(model)
    caption = captioner.caption(data / "images" / "0000_red.jpg")
    assert caption.confidence == captioner.model.config.calibration.confidence(caption.score)


def test_self_critical_training_raises_the_reward_of_a_trained_lstm(world, tmp_path):
    sizes = [f"lstm.{name}" for name in ("min_count=1", "layers=1", "hidden_size=32")]
    rate = ["train.lr=2e-2", "train.decay=linear", "train.precision=fp32"]
    pixels = ["store=", "views.stored_px=32", "train.shuffle_captions=false"]
    settings = [*sizes, *rate, *pixels, "lstm.embedding_size=32"]
    first = [*settings, "train.epochs=10", "train.validate_epochs=10"]
    start, _ = train_small(small(SHOW_TELL, world, *first), tmp_path)
    more = ["self_critical.samples=4", "train.lr=5e-3", "train.epochs=20", "name=rewarded"]
    recipe = small(SHOW_TELL, world, *settings, *more, f"start_from={start}/model")
    run, log = train_small(recipe, tmp_path)
    rewards = [line["reward"] for line in log if "reward" in line]
    assert sum(rewards[-5:]) / 5 > 1.2 * sum(rewards[:5]) / 5 > 0
    before, after = (
        LstmCaptioner.from_pretrained(folder / "model").network.standard for folder in (start, run)
    )
    assert torch.equal(before.mean, after.mean) and before.mean.abs().max() > 0
