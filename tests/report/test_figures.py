"""Figures of runs: what may share one, and what they say of units."""

from dataclasses import replace
from pathlib import Path

import pytest

from prefixcap.report.charts import SERIES
from prefixcap.report.errors import ErrorCounts
from prefixcap.report.figures import error_chart, loss_charts, score_chart
from prefixcap.report.groups import score_groups
from prefixcap.report.log import TrainingLog
from prefixcap.report.progress import courses_together, progress_chart
from prefixcap.report.runs import Run, read_runs
from tests.tiny_report import captions_of, photos, write_run

pytest.importorskip("matplotlib")


def run(name: str, **recipe) -> Run:
    """A run with a loss and two scores on dev."""
    log = TrainingLog({1: 3.0, 2: 2.0}, {2: {"flickr8k CIDEr": 0.3, "dev_loss": 3.0}}, 2)
    return Run(name, Path(name), "finished", {"stage": "caption", "data": ["a"], **recipe}, log=log)


def once_more(one: Run) -> Run:
    """The run, validated a second time."""
    one.log.validations[4] = {"dev_loss": 2.5}
    return one


def labels(chart) -> tuple[str, str]:
    """Labels of both axes."""
    axes = chart.figure.axes[0]
    return axes.get_xlabel(), axes.get_ylabel()


def test_losses_share_a_chart_only_where_they_mean_the_same():
    runs = [run("a"), run("b"), run("c", data=["other"]), run("d", stage="distill")]
    charts = loss_charts([*runs, Run("empty", Path("e"), "unfinished")])
    assert len(charts) == 3
    legend = charts[0].figure.legends[0].get_texts()
    assert [text.get_text() for text in legend] == ["a", "b"]
    assert labels(charts[0]) == ("step", "loss (nats per token)")
    assert "per photo" in labels(charts[2])[1]
    unscored = replace(run("u"), problems=["no scores yet"])
    assert "Unfinished" not in loss_charts([unscored])[0].caption
    assert "Unfinished" in loss_charts([replace(unscored, state="unfinished")])[0].caption


def test_scores_are_drawn_with_their_intervals(tmp_path):
    data = photos(tmp_path)
    texts = (("a", None), ("b", "a red photo"))
    folders = [write_run(tmp_path / name, data, captions_of(data, text)) for name, text in texts]
    (group,) = score_groups(read_runs(folders))
    axes = score_chart(group).figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_xlabel() == "CIDEr-D (x100)"
    low, high = group.entries[1].sheet.facts["intervals"]["CIDEr"]
    assert axes.lines[2].get_xdata().tolist() == [100 * low, 100 * high]


def test_a_run_has_one_colour_in_all_figures():
    runs = [run("a", data=["other"]), run("b")]
    (_, losses), (_, (course,)) = loss_charts(runs), courses_together([once_more(r) for r in runs])
    progress = progress_chart("p", [course], "")
    errors = error_chart("g", [ErrorCounts("b", 4, {"object": 0.25}, 0.25)], ["a", "b"])
    colours = {chart.figure.axes[0].lines[0].get_color() for chart in (losses, progress, errors)}
    assert colours == {SERIES[1]}


def test_error_classes_are_drawn_in_percent():
    chart = error_chart("g", [ErrorCounts("m", 4, {"object": 0.25, "person": 0.0}, 0.25)])
    assert labels(chart)[0] == "captions in the class (%)"
    assert chart.figure.axes[0].lines[0].get_xdata().tolist() == [25, 0]
    assert error_chart("g", []) is None
