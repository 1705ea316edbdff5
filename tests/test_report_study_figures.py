"""Figures of studies: as their files ask for them, and none of what cannot be compared."""

import pytest

from prefixcap.report_study import read_study
from prefixcap.report_study_figures import study_charts
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


def test_epochs_have_a_chart_for_each_quantity(tmp_path):
    asked = {"kind": "epochs", "metric": "CIDEr", "x": None}
    charts = study_charts(read_study(write_study(tmp_path / "s", figure=asked)))
    assert [chart.figure.axes[0].get_ylabel() for chart in charts] == [
        "training loss (nats per token)",
        "loss on dev (nats per token)",
        "CIDEr-D on dev (x100)",
    ]
    assert charts[2].figure.axes[0].lines[0].get_ydata() == pytest.approx([10, 20])


def test_what_was_scored_on_other_images_is_not_drawn_together(tmp_path):
    split = {"name": "dev", "images": None, "references": None}
    assert study_charts(read_study(write_study(tmp_path / "s", split=split))) == []
