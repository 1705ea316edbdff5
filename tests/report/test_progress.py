"""Losses against scores by epoch: what shares a figure, and what is counted."""

from pathlib import Path

import pytest

from prefixcap.report.log import TrainingLog
from prefixcap.report.progress import courses_together, progress_chart, progress_table
from prefixcap.report.runs import Run

pytest.importorskip("matplotlib")

CIDER = "CIDEr-D on flickr8k dev"


def run(name: str, **recipe) -> Run:
    """A run whose loss on dev rises from its second validation on while CIDEr-D improves."""
    dev = {10: (3.5, 0.1), 20: (3.0, 0.2), 30: (3.1, 0.25), 40: (3.2, 0.22)}
    validations = {step: {"dev_loss": a, "flickr8k CIDEr": b} for step, (a, b) in dev.items()}
    losses = {5: 4.0, 10: 3.0, 20: 2.5, 30: 2.0}
    recipe = {"train": {"epochs": 1.9, "validate_epochs": 0.5}, **recipe}
    return Run(name, Path(name), "finished", recipe, log=TrainingLog(losses, validations, 30))


def test_places_are_epochs_and_training_losses_are_means_since_the_validation_before():
    ((course,),) = courses_together([run("a")])
    assert course.across == "epoch"
    assert course.values["loss"] == {0.5: 3.5, 1.0: 2.5, 1.5: 2.0}
    assert list(course.values["dev_loss"]) == [0.5, 1.0, 1.5, 1.9]
    assert course.values[CIDER][1.5] == 25


def test_only_runs_whose_losses_and_dev_images_are_alike_share_a_figure():
    runs = [run("a"), run("b"), run("c", dev=["other"]), run("d", lstm={"min_count": 3})]
    once = Run("once", Path("o"), "unfinished", log=TrainingLog({}, {1: {"flickr8k CIDEr": 1}}))
    names = [[course.name for course in part] for part in courses_together([*runs, once])]
    assert names == [["a", "b"], ["c"], ["d"]]


def test_losses_stand_above_scores_over_the_same_epochs():
    (courses,) = courses_together([run("a"), run("b")])
    losses, scores = progress_chart("p", courses, "Both.").figure.axes
    assert losses.get_ylabel() == "loss (nats per token)"
    assert scores.get_ylabel() == "CIDEr-D (x100)\non flickr8k dev"
    assert scores.get_xlabel() == "epoch"
    assert losses.get_xlim() == scores.get_xlim()


def test_the_table_says_how_often_scores_improve_while_the_loss_rises():
    (courses,) = courses_together([run("a")])
    (row,) = progress_table("p", courses).rows
    cells = ["a", CIDER, "3.000", "1", "20.0", "25.0", "1.5", "3.100", "1 of 2"]
    assert [cell.text for cell in row] == cells


def test_the_table_leaves_out_what_was_validated_twice():
    twice = run("a")
    for step in (30, 40):
        del twice.log.validations[step]
    (courses,) = courses_together([twice])
    assert progress_table("p", courses) is None
