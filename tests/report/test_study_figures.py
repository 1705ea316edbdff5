"""Figures of studies: as their files ask for them, and none of what cannot be compared."""

import json

import pytest

from prefixcap.report.study import read_study
from prefixcap.report.study_figures import epochs_chart, study_charts
from tests.tiny_report import write_study

pytest.importorskip("matplotlib")


def test_lines_have_units_and_training_photos_beside(tmp_path):
    (chart,) = study_charts(read_study(write_study(tmp_path / "s")))
    axes = chart.figure.axes[0]
    assert axes.get_xlabel() == "prefix length (vectors)"
    assert axes.get_ylabel() == "CIDEr-D (x100)"
    assert axes.get_xscale() == "log"
    legend = [text.get_text() for text in chart.figure.legends[0].get_texts()]
    assert legend == ["mlp, dev", "mlp, training photos", "transformer, dev",
                      "transformer, training photos"]  # fmt: skip
    assert "2 seeds" in chart.caption


def test_bars_are_grouped_by_the_last_axis(tmp_path):
    asked = {"kind": "bars", "metric": "CIDEr", "x": None}
    (chart,) = study_charts(read_study(write_study(tmp_path / "s", figure=asked)))
    axes = chart.figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["mlp", "transformer"]
    widths = [patch.get_width() for patch in axes.patches]
    assert widths == pytest.approx([30, 40, 50, 60, 70])
    colours = [patch.get_facecolor() for patch in axes.patches]
    assert colours[:2] == colours[3:]
    legend = [text.get_text() for text in chart.figure.legends[0].get_texts()]
    assert legend == ["prefix length 5", "prefix length 10", "prefix length 80"]
    hatches = [patch.get_hatch() for patch in axes.patches]
    assert (len(set(hatches)), hatches[:2]) == (3, hatches[3:])


def test_bars_of_named_settings_are_called_by_their_names(tmp_path):
    content = json.loads((write_study(tmp_path / "s") / "study.json").read_text())
    asked = {"kind": "bars", "metric": "CIDEr", "x": None}
    axes = content["axes"][::-1]
    (chart,) = study_charts(read_study(write_study(tmp_path / "t", figure=asked, axes=axes)))
    legend = [text.get_text() for text in chart.figure.legends[0].get_texts()]
    assert legend == ["mlp", "transformer"]


def test_epochs_stand_below_each_other_with_the_seeds_spread(tmp_path):
    asked = {"kind": "epochs", "metric": "CIDEr", "x": None}
    (chart,) = study_charts(read_study(write_study(tmp_path / "s", figure=asked)))
    losses, scores = chart.figure.axes
    assert losses.get_ylabel() == "loss (nats per token)"
    assert (scores.get_xlabel(), scores.get_ylabel()) == ("epoch", "CIDEr-D (x100)\non dev")
    assert scores.lines[0].get_ydata() == pytest.approx([10, 20])
    assert len(scores.collections) == 5  # a band for each variant with finished seeds


def test_one_epoch_is_drawn_as_bars(tmp_path):
    asked = {"kind": "epochs", "metric": "CIDEr", "x": None}
    folder = write_study(tmp_path / "s", figure=asked)
    content = json.loads((folder / "study.json").read_text())
    for row in content["rows"]:
        for run in row["runs"]:
            run["epochs"] = run["epochs"][:1]
    (folder / "study.json").write_text(json.dumps(content))
    (chart,) = study_charts(read_study(folder))
    assert len(chart.figure.axes[0].patches) == 5


def test_losses_of_other_recipes_are_not_drawn_together(tmp_path):
    content = json.loads((write_study(tmp_path / "s") / "study.json").read_text())
    content["rows"][0]["recipe"] = "other.toml"
    study = read_study(write_study(tmp_path / "t", rows=content["rows"]))
    assert len(epochs_chart(study).figure.axes) == 1
    asked = {"kind": "epochs", "metric": "CIDEr", "x": None}
    charts = study_charts(
        read_study(write_study(tmp_path / "u", rows=content["rows"], figure=asked))
    )
    assert [len(chart.figure.axes) for chart in charts] == [1, 2, 2]  # then each with its losses
    lines = [len(chart.figure.axes[-1].lines) for chart in charts]
    assert lines[0] == lines[1] + lines[2] and lines[1] == 1
    assert len({chart.name for chart in charts}) == 3


def test_captions_count_the_seeds_that_are_finished(tmp_path):
    study = read_study(write_study(tmp_path / "s", seeds=[0, 1, 2, 3, 4]))
    assert "the 2 finished of 5 seeds" in study_charts(study)[0].caption
    assert "the 2 finished of 5 seeds" in epochs_chart(study).caption


def test_what_was_scored_on_other_images_is_not_drawn_together(tmp_path):
    split = {"name": "dev", "images": None, "references": None}
    assert study_charts(read_study(write_study(tmp_path / "s", split=split))) == []
