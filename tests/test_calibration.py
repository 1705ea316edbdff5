"""Calibration: the curve is that of the data, is stored, and is shown as a confidence."""

import math

import numpy as np
import pytest

from prefixcap.calibration import Calibrated, human_level, logistic, store_calibration
from prefixcap.captioner import Captioner
from prefixcap.cli import main as cli
from prefixcap.config import Calibration, DecodeOptions
from prefixcap.metrics import score
from prefixcap.tuning import store_decoding
from tests.tiny_captioner import save_tiny_model
from tests.tiny_run import write_photos


def test_logistic_finds_the_curve_that_made_the_data():
    generator = np.random.default_rng(0)
    values = generator.uniform(-4, 0, 20_000)
    right = generator.random(20_000) < 1 / (1 + np.exp(-(2 + 1.5 * values)))
    intercept, slope = logistic(values, right)
    assert intercept == pytest.approx(2, abs=0.1) and slope == pytest.approx(1.5, abs=0.08)


def test_scores_that_part_right_from_wrong_stay_finite():
    values = np.array([-3.0, -2.0, -1.0, -0.5])
    intercept, slope = logistic(values, values > -1.5)
    assert math.isfinite(intercept) and 0 < slope < 1000


def test_the_human_level_is_the_first_caption_against_the_others():
    references = {
        "a": ["a dog runs on the grass", "a dog runs on grass", "the brown dog plays"],
        "b": ["two men cook", "men in a kitchen", "two men cook in a kitchen"],
    }
    expected = score(
        {image: captions[0] for image, captions in references.items()},
        {image: captions[1:] for image, captions in references.items()},
        ("cider",),
    ).corpus["CIDEr"]
    assert human_level(references) == expected > 0


def test_bins_are_equally_full_and_thresholds_keep_the_surest():
    curve = Calibration(intercept=0, slope=1, right_from=0.8, images=10)
    scores, right = np.linspace(-5, 0, 10), np.array([False] * 7 + [True] * 3)
    found = Calibrated(curve, scores, right, [])
    assert [count for *_, count in found.bins()] == [2] * 5
    assert [share for _, share, _ in found.bins()] == [0, 0, 0, 0.5, 1]
    assert found.kept(curve.confidence(scores[7])) == (pytest.approx(0.3), 1)
    assert math.isnan(found.kept(0.99)[1])


@pytest.fixture
def model(tmp_path):
    """Folder of a tiny model."""
    return save_tiny_model(tmp_path / "model")


def test_a_calibrated_model_says_how_sure_it_is(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("prefixcap.calibration.LEAST_IMAGES", 8)
    data = write_photos(tmp_path / "flickr8k")
    words = ["calibrate", str(model), "flickr8k", str(data), "--split", "dev"]
    assert cli.main(words) == 0
    assert "right: CIDEr-D of" in capsys.readouterr().out
    photo = data / "images" / "0000_red.jpg"
    captioner = Captioner.from_pretrained(model)
    caption = captioner.caption(str(photo))
    assert caption.confidence == captioner.model.config.calibration.confidence(caption.score)
    assert cli.main(["caption", "--model", str(model), "--scores", str(photo)]) == 0
    assert f"({caption.score:.3f}, right {100 * caption.confidence:.0f} %)" in (
        capsys.readouterr().out
    )


def test_another_decoding_takes_the_calibration_away(model):
    store_calibration(model, Calibration(intercept=0, slope=1, right_from=0.8, images=50))
    assert Captioner.from_pretrained(model).model.config.calibration.images == 50
    store_decoding(model, DecodeOptions(beam_size=2, method="beam"))
    assert Captioner.from_pretrained(model).model.config.calibration is None


def test_too_few_photos_are_refused(model, tmp_path, capsys):
    data = write_photos(tmp_path / "flickr8k")
    words = ["calibrate", str(model), "flickr8k", str(data), "--split", "dev"]
    assert cli.main(words) != 0
    assert "8 photos can be read" in capsys.readouterr().err
    assert Captioner.from_pretrained(model).model.config.calibration is None
