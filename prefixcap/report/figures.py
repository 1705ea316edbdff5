"""Figures of a report's runs: scores with intervals, training losses, error classes."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from prefixcap.report.charts import GRID, INK, QUIET, SERIES, Chart, draw, look, shortened
from prefixcap.report.errors import PEOPLE, ErrorCounts
from prefixcap.report.groups import Group
from prefixcap.report.log import smoothed
from prefixcap.report.runs import UNFINISHED, Run
from prefixcap.report.tables import metric_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = tuple[int, str, Sequence[float], Sequence[float]]  # place of the run, name, steps, values
RANKED = ("CIDEr", "SPICE", "METEOR", "ROUGE-L", "BLEU-4")


def score_chart(group: Group) -> Chart | None:
    """The group's main score with its interval, the papers' rows beside; None for a single row."""
    metric = next((name for name in RANKED if name in group.metrics), None)
    if metric is None or len(group.entries) + len(group.published) < 2:
        return None
    measured = [one for one in group.entries if metric in one.sheet.facts["scores"]]
    published = [row for row in group.published if metric in row.scores]

    def paint(axes: "Axes") -> None:
        for place, one in enumerate(measured):
            value = 100 * one.sheet.facts["scores"][metric]
            low, high = (100 * end for end in one.sheet.facts["intervals"][metric])
            axes.plot([low, high], [place, place], color=SERIES[0], linewidth=2.2)
            label = "measured, 95 % interval" if place == 0 else None
            axes.plot(value, place, "o", color=SERIES[0], label=label)
        for number, row in enumerate(published):
            place = len(measured) + number
            label = "published" if number == 0 else None
            style = {"markerfacecolor": "none", "color": SERIES[1], "label": label}
            axes.plot(row.scores[metric], place, "D", **style)
        names = [one.name for one in measured] + [row.title for row in published]
        axes.set_yticks(range(len(names)), [shortened(name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{metric_title(metric)} (x100)")

    rows = len(measured) + len(published)
    caption = (
        f"{metric_title(metric)} on {group.dataset} {group.split}, {group.images:,} images. Bars: "
        "95 % bootstrap intervals over images; they say nothing of other training seeds."
    )
    return draw(f"scores-{group.name}", caption, paint, 1.25 + 0.3 * rows)


def loss_charts(runs: Sequence[Run]) -> list[Chart]:
    """Training losses by step; only runs whose losses mean the same share a chart."""
    names = [run.name for run in runs]
    together: dict[str, list[Run]] = {}
    for run in runs:
        if run.log.losses:
            together.setdefault(run.loss_kind, []).append(run)
    charts = []
    for number, part in enumerate(together.values(), 1):
        stage = str(part[0].recipe.get("stage", "training"))
        states = {run.state for run in part}
        unit = "summed loss per photo" if stage == "distill" else "loss (nats per token)"
        caption = (
            f"Training loss by step ({stage} stage): as logged, pale, and its running mean. "
            f"{'Unfinished runs end early. ' if UNFINISHED in states else ''}"
            "Runs with other data, vocabulary or loss have a figure of their own."
        )
        curves = [
            (names.index(run.name), run.name, list(run.log.losses), list(run.log.losses.values()))
            for run in part
        ]
        charts.append(
            draw(f"loss-{number}", caption, lambda axes, c=curves, u=unit: _loss_lines(axes, c, u))
        )
    return charts


def error_chart(
    name: str, counts: Sequence[ErrorCounts], order: Sequence[str] = ()
) -> Chart | None:
    """Shares of the error classes by model, people beside; None where nothing was classed.

    Args:
        name: of its files.
        counts: of the models, and of people.
        order: names of all runs, whose places choose the colours as in other figures.
    """
    if not counts:
        return None
    classes = list(counts[0].shares)

    def paint(axes: "Axes") -> None:
        models = [one for one in counts if one.name != PEOPLE]
        people = [one for one in counts if one.name == PEOPLE]
        axes.hlines(range(len(classes)), 0, _widest(counts), color=GRID, linewidth=0.6)
        for number, one in enumerate(models):
            place = order.index(one.name) if one.name in order else number
            style = look(place) | {"linestyle": "none", "markersize": 5.5, "alpha": 0.9}
            values = [100 * one.shares[kind] for kind in classes]
            axes.plot(values, range(len(classes)), label=shortened(one.name), **style)
        for one in people:
            values = [100 * one.shares[kind] for kind in classes]
            style = {"color": INK, "markersize": 13, "markeredgewidth": 1.8, "label": "people"}
            axes.plot(values, range(len(classes)), "|", **style)
        axes.set_yticks(range(len(classes)), classes)
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("captions in the class (%)")

    caption = (
        "Captions in each error class. The bar of people is the first reference of each image "
        "judged by the others: what the classes find wrong where nothing is."
    )
    return draw(f"errors-{name}", caption, paint, 3.4)


def _widest(counts: Iterable[ErrorCounts]) -> float:
    """The largest share, in percent."""
    return max(100 * share for one in counts for share in one.shares.values()) or 1.0


def _loss_lines(axes: "Axes", curves: Sequence[Curve], unit: str) -> None:
    """Each loss twice: as it is, pale, and smoothed."""
    for place, name, steps, values in curves:
        style = look(place) | {"marker": None}
        axes.plot(steps, values, **style | {"linewidth": 0.7, "alpha": 0.3})
        axes.plot(steps, smoothed(values), label=shortened(name), **style)
    if len(curves) == 1:
        _name_single(axes, curves[0][1])
    axes.set_xlabel("step")
    axes.set_ylabel(unit)


def _name_single(axes: "Axes", name: str) -> None:
    """The name of the only line, where a legend would be."""
    axes.set_title(shortened(name), loc="left", fontsize=8.5, color=QUIET)
