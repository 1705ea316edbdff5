"""Tuning: trials are what evaluation gives, the best is stored, and test splits are refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from prefixcap.captioner import Captioner
from prefixcap.config import DecodeOptions
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError
from prefixcap.evaluate import evaluate_captioner
from prefixcap.model_card import decoding_lines
from prefixcap.tuning import Grid, Tuning, candidates, refuse_test_split, store_decoding, tune
from tests.tiny_captioner import save_tiny_model, tiny_model, write_photos

GRID = Grid(beams=(1, 3), length_penalties=(0.5, 1.5), min_tokens=(0, 5))


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    """Tiny captioner; its random words make good references only of its own."""
    return Captioner(tiny_model())


@pytest.fixture(scope="module")
def split(captioner, tmp_path_factory) -> list[CaptionRecord]:
    """Eight photos whose references are the captions of a beam of three with five tokens."""
    photos = sorted(write_photos(tmp_path_factory.mktemp("photos"), 8).rglob("*.png"))
    target = DecodeOptions(beam_size=3, order="sum", length_penalty=1.5, min_tokens=5, max_tokens=8)
    texts = [caption.text for caption in captioner.caption(photos, target)]
    return [
        CaptionRecord(str(n), photo, (text, "a dog in the snow"), "dev")
        for n, (photo, text) in enumerate(zip(photos, texts, strict=True))
    ]


@pytest.fixture(scope="module")
def tuning(captioner, split) -> Tuning:
    """The grid on that split."""
    return tune(captioner, split, GRID)


def test_each_trial_scores_as_evaluation_with_its_options_does(captioner, split, tuning):
    for trial in tuning.trials:
        found = evaluate_captioner(captioner, split, trial.options, ("cider",))
        assert trial.cider == pytest.approx(found.scores.corpus["CIDEr"], abs=1e-9)


def test_no_setting_beats_the_one_that_wrote_the_references(tuning):
    best = tuning.best
    assert best.options.beam_size == 3
    assert best.cider == tuning.trials[-1].cider  # the last of the grid wrote them
    assert best.cider == max(trial.cider for trial in tuning.trials)
    assert tuning.gain.difference == pytest.approx(best.cider - tuning.trials[0].cider)
    assert tuning.gain.difference > 0


def test_every_combination_is_tried_once_and_the_stored_options_first(captioner, tuning):
    options = [trial.options for trial in tuning.trials]
    assert options[0] == captioner.model.config.decoding
    tried = [(one.beam_size, one.min_tokens, one.length_penalty) for one in options]
    greedy = [(1, 0, 1.0), (1, 5, 1.0)]  # the stored one is greedy without a least length
    beams = [(3, least, penalty) for least in (0, 5) for penalty in (0.5, 1.5)]
    assert tried == greedy + beams


def test_a_photo_that_cannot_be_read_is_left_out_and_named(captioner, split, tmp_path, tuning):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no photo")
    records = [*split, replace(split[0], image_id="broken", path=broken)]
    found = tune(captioner, records, Grid((1,), (1.0,), (0,)))
    assert [one.key for one in found.skipped] == ["broken"]
    assert found.trials[0].cider == pytest.approx(tuning.trials[0].cider)


def test_beams_narrower_than_the_captions_wanted_are_not_tried():
    stored = DecodeOptions(beam_size=4, captions_per_image=3)
    assert {one.beam_size for one in candidates(stored, Grid((1, 2, 5)))} == {4, 5}


def test_a_least_length_above_the_longest_is_refused():
    with pytest.raises(InputError, match="min_tokens 9"):
        candidates(DecodeOptions(max_tokens=8), Grid((1,), (1.0,), (9,)))


@pytest.mark.parametrize("name", ["test", "Test2014", "testdev"])
def test_test_splits_are_refused_by_name_or_by_their_records(split, name):
    refuse_test_split("dev", split)
    with pytest.raises(InputError, match="--even-on-test"):
        refuse_test_split(name, split)
    with pytest.raises(InputError, match="--even-on-test"):
        refuse_test_split(None, [*split, replace(split[0], split=name)])


def test_storing_changes_the_decoding_and_its_card_and_nothing_else(tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    chosen = DecodeOptions(beam_size=3, order="sum", length_penalty=0.5, max_tokens=8)
    store_decoding(folder, chosen)
    captioner = Captioner.from_pretrained(folder)
    assert captioner.model.config.decoding == chosen
    assert decoding_lines(chosen) in (folder / "README.md").read_text("utf-8")
    after = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {
        "config.json",
        "README.md",
    }
    old, new = (json.loads(files["config.json"]) for files in (before, after))
    assert old | {"decoding": new["decoding"]} == new


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"config\.json"):
        store_decoding(tmp_path, DecodeOptions())
