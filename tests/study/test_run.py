"""Runs of a study: when one is done, and what is said of a process that was killed."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from prefixcap import precision
from prefixcap.caption_stage import caption_recipe as train
from prefixcap.errors import InputError
from prefixcap.metrics import meteor
from prefixcap.metrics.java import JavaError
from prefixcap.recipe import Recipe, load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch
from prefixcap.study.run import (
    Job,
    RunningJob,
    ScoredSplit,
    in_one_precision,
    is_done,
    write_scores,
)
from tests.tiny_run import caption_recipe, write_photos

SPLIT = ScoredSplit("dev", 0, None, ("cider",), "ptb")


def tiny(folder: Path) -> Recipe:
    (folder / "c.toml").write_text(caption_recipe(folder / "data"))
    return load_recipe(folder / "c.toml")


def test_a_run_is_done_with_this_recipe_s_model_and_these_scores(tmp_path):
    recipe = tiny(tmp_path)
    job = Job("run", recipe, tmp_path, (SPLIT,))
    assert not is_done(job)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    assert not is_done(job)
    sheet = {"format_version": 1, "scores": {}, "per_image": [], "study": SPLIT.facts}
    (tmp_path / "scores-dev.json").write_text(json.dumps(sheet))
    assert is_done(job)
    sheet["study"] = {**SPLIT.facts, "metrics": ["bleu"]}
    (tmp_path / "scores-dev.json").write_text(json.dumps(sheet))
    assert not is_done(job)


@pytest.mark.parametrize(
    ("begun", "fast", "expected"),
    [("fp32", True, "fp32"), ("bf16", False, "bf16"), ("", True, "bf16"), ("", False, "fp32")],
)
def test_runs_of_a_study_have_one_precision(tmp_path, monkeypatch, begun, fast, expected):
    monkeypatch.setattr(precision, "bf16_is_fast", lambda device: fast)
    recipe = tiny(tmp_path)  # in fp32
    free = recipe.train.model_copy(update={"precision": "auto"})
    jobs = {
        name: Job("run", recipe.model_copy(update={"train": free}), tmp_path / name)
        for name in ("first", "second")
    }
    jobs["asked"] = Job("run", recipe, tmp_path / "asked")
    for name, text in (("first", "[]"), ("second", json.dumps({"train": {"precision": begun}}))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.json").write_text(text)
    found = in_one_precision(jobs)
    assert [job.recipe.train.precision for job in found.values()] == [expected] * 2 + ["fp32"]
    assert [job.folder for job in found.values()] == [job.folder for job in jobs.values()]


def test_a_changed_recipe_is_not_done(tmp_path):
    recipe = tiny(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    assert is_done(Job("run", recipe, tmp_path))
    train = recipe.train.model_copy(update={"lr": 0.5})
    assert not is_done(Job("run", recipe.model_copy(update={"train": train}), tmp_path))


def test_scores_without_those_of_a_failed_program_are_not_kept(tmp_path, monkeypatch):
    def fail(*words):
        raise JavaError("METEOR: java was killed by signal 9")

    write_photos(tmp_path / "data")
    recipe = tiny(tmp_path)
    train(recipe, RunFolder(tmp_path / "run", recipe), Watch())
    monkeypatch.setattr(meteor, "score", fail)
    scored = ScoredSplit("dev", 0, None, ("cider", "meteor"), "ptb")
    job = Job("run", recipe, tmp_path / "run", (scored,))
    with pytest.raises(InputError, match=r"killed by signal 9\. The same command scores the run"):
        write_scores(job, scored)
    assert not is_done(job)
    monkeypatch.setattr(meteor, "score", lambda *words: (np.zeros(8), np.ones((8, 23))))
    write_scores(job, scored)
    assert is_done(job)


def test_a_killed_process_is_a_failed_run(tmp_path):
    os.mkfifo(tmp_path / "output.txt")  # opening it waits for a reader, so the process is there
    running = RunningJob(Job("run", tiny(tmp_path), tmp_path, (SPLIT,)))
    os.kill(running.process.pid, signal.SIGKILL)
    while not running.ended:
        time.sleep(0.01)
    outcome = running.outcome()
    assert outcome.status == "failed"
    assert "SIGKILL (out of memory?)" in outcome.reason
