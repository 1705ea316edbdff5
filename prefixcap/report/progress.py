"""Losses and dev scores of trainings by epoch in one figure: does the better loss write better?"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from prefixcap.report.charts import QUIET, Chart, draw_panels, look, shortened
from prefixcap.report.runs import Run
from prefixcap.report.tables import Cell, Table, metric_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSS, DEV_LOSS = "loss", "dev_loss"
FEWEST = 3  # validations from which on a table says more than the figure
Values = Mapping[float, float]  # epoch, or step, to value
TRAINING_LINE = {"linestyle": ":", "linewidth": 1.2, "marker": None}


@dataclass(frozen=True)
class Course:
    """What became of a training from validation to validation.

    Attributes:
        name: of the run or of the study's variant.
        across: what validations are counted in, "epoch" or "step".
        values: `LOSS`, the mean training loss since the validation before, `DEV_LOSS`, and
            scores on dev x100 by their titles -> their values.
        spreads: the same keys -> standard deviations over seeds; {} of a single run.
        place: chooses its colour; None: its place in a figure.
    """

    name: str
    across: str
    values: Mapping[str, Values]
    spreads: Mapping[str, Values] = field(default_factory=dict)
    place: int | None = None

    @property
    def scores(self) -> list[str]:
        """Titles of the scores on dev."""
        return [name for name in self.values if name not in (LOSS, DEV_LOSS)]


def courses_together(runs: Sequence[Run]) -> list[list[Course]]:
    """Courses of two validations or more; those whose losses and dev images are alike together."""
    together: dict[str, list[Course]] = {}
    for place, run in enumerate(runs):
        course = replace(_course(run), place=place)
        if max(map(len, course.values.values()), default=0) > 1:
            key = json.dumps([run.loss_kind, run.recipe.get("dev"), course.across], sort_keys=True)
            together.setdefault(key, []).append(course)
    return list(together.values())


def progress_chart(name: str, courses: Sequence[Course], caption: str) -> Chart:
    """The losses above, a panel for each score on dev below, over the same epochs or steps."""
    scores = list(dict.fromkeys(title for course in courses for title in course.scores))
    losses = any({LOSS, DEV_LOSS} & course.values.keys() for course in courses)
    parts: list[Sequence[str]] = [(LOSS, DEV_LOSS)] if losses else []
    parts += [(title,) for title in scores]
    paints = [_painted(courses, part, number == len(parts)) for number, part in enumerate(parts, 1)]
    return draw_panels(name, caption, paints, 0.9 + 1.7 * len(parts))


def progress_table(name: str, courses: Sequence[Course]) -> Table | None:
    """Where loss on dev is lowest and where scores are best; None without three validations.

    A step from one validation to the next counts as one of rising loss if loss on dev is higher
    after it; the last column says in how many of these the score improves all the same.
    """
    rows = [
        [Cell(course.name), *_turns(course, title)]
        for course in courses
        for title in course.scores
        if len(course.values.get(DEV_LOSS, {})) >= FEWEST
    ]
    if not rows:
        return None
    across = courses[0].across
    columns = ["Run", "Score", "Lowest loss on dev", f"at {across}", "Score there"]
    columns += ["Best score", f"at {across}", "Loss on dev there"]
    columns += ["Loss rises, score improves"]
    caption = (
        "Loss on dev (nats per token) against scores on dev (x100) while training. The last "
        "column: of the steps between validations in which loss on dev rises, those in which the "
        "score improves."
    )
    return Table(name, caption, columns, rows)


def _course(run: Run) -> Course:
    """The validations of a run by epoch, or by step where its recipe does not say epochs."""
    log, train = run.log, run.recipe.get("train") or {}
    each, most = train.get("validate_epochs"), train.get("epochs")
    values: dict[str, dict[float, float]] = {}
    for number, (before, step) in enumerate(pairwise([0, *log.validations]), 1):
        place = min(number * each, most) if each and most else step
        losses = [loss for at, loss in log.losses.items() if before < at <= step]
        if losses:
            values.setdefault(LOSS, {})[place] = sum(losses) / len(losses)
        for kind, value in log.validations[step].items():
            if kind == DEV_LOSS:
                values.setdefault(DEV_LOSS, {})[place] = value
            elif kind.endswith("CIDEr"):
                data = kind.removesuffix("CIDEr").strip()
                title = f"{metric_title('CIDEr')} on {data + ' ' if data else ''}dev"
                values.setdefault(title, {})[place] = 100 * value
    return Course(run.name, "epoch" if each and most else "step", values)


def _painted(courses: Sequence[Course], keys: Sequence[str], last: bool) -> Any:
    """What fills the panel of the losses, or of one score."""

    def paint(axes: "Axes") -> None:
        for number, course in enumerate(courses):
            for key in keys:
                values = course.values.get(key, {})
                place = number if course.place is None else course.place
                marks = look(place) | (TRAINING_LINE if key == LOSS else {})
                label = None if key == LOSS else shortened(course.name)
                axes.plot(list(values), list(values.values()), label=label, **marks)
                _band(axes, values, course.spreads.get(key, {}), marks["color"])
        if LOSS in keys:
            axes.plot([], [], color=QUIET, label="loss in training", **TRAINING_LINE)
        score = keys[0].replace(" on ", " (x100)\non ", 1)
        axes.set_ylabel("loss (nats per token)" if LOSS in keys else score)
        if last:
            axes.set_xlabel(courses[0].across)
        if courses[0].across == "epoch":
            axes.xaxis.get_major_locator().set_params(integer=True)

    return paint


def _band(axes: "Axes", values: Values, spreads: Values, colour: str) -> None:
    """The spread over seeds around a line."""
    places = [place for place in values if place in spreads]
    low = [values[place] - spreads[place] for place in places]
    high = [values[place] + spreads[place] for place in places]
    if places:
        axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


def _turns(course: Course, title: str) -> list[Cell]:
    """Cells on one score of a course."""
    loss, score = course.values[DEV_LOSS], course.values[title]
    lowest = min(loss, key=lambda place: loss[place])
    best = max(score, key=lambda place: score[place])
    shared = [place for place in loss if place in score]
    rises = [(a, b) for a, b in pairwise(shared) if loss[b] > loss[a]]
    improves = sum(score[b] > score[a] for a, b in rises)
    return [
        Cell(title),
        Cell(f"{loss[lowest]:.3f}"),
        Cell(f"{lowest:g}"),
        Cell(f"{score[lowest]:.1f}" if lowest in score else ""),
        Cell(f"{score[best]:.1f}"),
        Cell(f"{best:g}"),
        Cell(f"{loss[best]:.3f}" if best in loss else ""),
        Cell(f"{improves} of {len(rises)}" if rises else "loss never rises"),
    ]
