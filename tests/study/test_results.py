"""What the runs of a study left: epochs out of their logs, and how far unfinished ones are."""

import pytest

from prefixcap.report.log import TrainingLog
from prefixcap.study.plan import load_study
from prefixcap.study.results import epochs_of, study_results
from tests.tiny_run import caption_recipe

PLAN = """
name = "s"
title = "S"
recipe = "c.toml"
seeds = [0, 1]

[[axes]]
name = "prefix length"
set = ["mapper.prefix_length={}"]
numbers = [1]

[figure]
kind = "bars"
"""


def test_an_epoch_has_the_losses_since_the_last_validation():
    log = TrainingLog(
        losses={5: 4.0, 10: 2.0, 15: 1.0, 17: 3.0},
        validations={
            10: {"dev_loss": 3.5, "flickr8k CIDEr": 0.2, "coco CIDEr": 0.4, "coco BLEU-1": 0.9},
            17: {"flickr8k CIDEr": 0.5},
        },
    )
    first, last = epochs_of(log, epochs=1.7, validate_epochs=1.0)
    assert first == {"epoch": 1.0, "loss": 3.0, "dev_loss": 3.5, "cider": pytest.approx(0.3)}
    assert last == {"epoch": 1.7, "loss": 2.0, "dev_loss": None, "cider": 0.5}


def test_unfinished_runs_say_how_far_they_are(tmp_path):
    (tmp_path / "c.toml").write_text(caption_recipe(tmp_path))
    (tmp_path / "s.toml").write_text(PLAN)
    (tmp_path / "prefix-length-1-seed0").mkdir()
    log = '{"step": 1200, "loss": 2.0}\n'
    (tmp_path / "prefix-length-1-seed0" / "log.jsonl").write_text(log)
    (row,) = study_results(load_study(tmp_path / "s.toml"), tmp_path, {})["rows"]
    assert [(run["status"], run["reason"]) for run in row["runs"]] == [
        ("missing", "unfinished, at step 1,200"),
        ("missing", "not begun"),
    ]
