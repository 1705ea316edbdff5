"""Figures of studies as their files ask for them: bars, lines, epochs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefixcap.report.charts import DASHES, INK, SERIES, Chart, draw, look, shortened
from prefixcap.report.progress import DEV_LOSS, LOSS, Course, progress_chart
from prefixcap.report.study import Study, epoch_points, label_without, line_points
from prefixcap.report.tables import metric_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ERROR_BAR = {"elinewidth": 1.2, "capsize": 2.5, "ecolor": INK}
HATCHES = ("", "///", "...", "xxx", "---")  # kinds of bars differ without colour too
MOST_TICKS = 8  # more values than these get the axis that matplotlib draws
SCORE = "CIDEr-D on dev"
EPOCH_PARTS = {LOSS: ("loss", 1), DEV_LOSS: ("dev_loss", 1), SCORE: ("cider", 100)}


def study_charts(study: Study) -> list[Chart]:
    """The figure that the study asks for; bars in place of epochs where there is only one."""
    asked = study.content["figure"] or {}
    kind, metric = asked.get("kind"), asked.get("metric") or "CIDEr"
    if kind == "epochs" and (charts := epochs_charts(study)):
        return charts
    if not study.comparable:
        return []
    if kind == "lines":
        return _lines(study, asked.get("x"), metric)
    return _bars(study, metric)


def _lines(study: Study, axis: str, metric: str) -> list[Chart]:
    """The metric against an axis of numbers, on training photos too where they are scored."""
    lines = line_points(study, axis, metric)
    if not lines:
        return []
    train = line_points(study, axis, metric, "train_")
    places = sorted({point[0] for points in lines.values() for point in points})
    unit = next((one.get("unit") for one in study.content["axes"] if one["name"] == axis), None)

    def paint(axes: "Axes") -> None:
        for number, label in enumerate(lines):
            style = look(number) | {"linestyle": DASHES[0], "capsize": 2.5}
            named = shortened(label or metric_title(metric))
            parts = [(lines, style, _split_label(study))]
            if label in train:
                dashed = style | {"linestyle": DASHES[1], "markerfacecolor": "none"}
                parts.append((train, dashed, "training photos"))
            for points, look_of, where in parts:
                x, y, spread = zip(*points[label], strict=True)
                title = f"{named}, {where}" if train else named
                axes.errorbar(x, y, yerr=spread, label=title, **look_of)
        if places[0] > 0 and places[-1] / places[0] >= 16:
            axes.set_xscale("log")
            axes.minorticks_off()
        if len(places) <= MOST_TICKS:
            axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.set_xlabel(f"{axis} ({unit})" if unit else axis)
        axes.set_ylabel(f"{metric_title(metric)} (x100)")

    caption = f"{metric_title(metric)} against {axis}, {_scored_on(study)}{_spread(study)}"
    return [draw(f"study-{study.name}", caption, paint)]


def _bars(study: Study, metric: str) -> list[Chart]:
    """A bar for each variant with the seeds' spread; grouped where there are several axes."""
    rows = [row for row in study.rows if (row["mean"] or {}).get(metric) is not None]
    if not rows:
        return []
    axis_names = [one["name"] for one in study.content["axes"]]
    last = axis_names[-1] if len(axis_names) > 1 else None
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        name = label_without(row, last) if last else str(row["variant"])
        groups.setdefault(name, []).append(row)
    kinds = list(dict.fromkeys(str(row["settings"].get(last)) for row in rows)) if last else [""]
    gap = 0.7 if last else 0.0

    def paint(axes: "Axes") -> None:
        place, middles, named = 0.0, [], set()
        for part in groups.values():
            middles.append(place + (len(part) - 1) / 2)
            for row in part:
                kind = str(row["settings"].get(last)) if last else ""
                titled = kind if isinstance(row["settings"].get(last), str) else f"{last} {kind}"
                label = titled if kind and kind not in named else None
                named.add(kind)
                _bar(axes, place, row, metric, {"label": label, **_bar_look(kinds, kind)})
                place += 1
            place += gap
        axes.set_yticks(middles, [shortened(name, 30) for name in groups])
        axes.set_ylim(place - gap - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{metric_title(metric)} (x100)")

    caption = f"{metric_title(metric)} by variant, {_scored_on(study)}{_spread(study)}"
    height = 1.1 + 0.28 * (len(rows) + gap * len(groups))
    return [draw(f"study-{study.name}", caption, paint, height)]


def _bar(
    axes: "Axes", place: float, row: dict[str, Any], metric: str, style: dict[str, Any]
) -> None:
    """One variant's bar."""
    deviation = (row["std"] or {}).get(metric)
    spread = None if deviation is None else 100 * deviation
    axes.barh(place, 100 * row["mean"][metric], 0.8, xerr=spread, error_kw=ERROR_BAR, **style)


def _bar_look(kinds: list[str], kind: str) -> dict[str, Any]:
    """Colour and hatch of a bar's kind."""
    place = kinds.index(kind)
    colour, hatch = SERIES[place % len(SERIES)], HATCHES[place % len(HATCHES)]
    return {"facecolor": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0}


def epochs_charts(study: Study) -> list[Chart]:
    """All variants by epoch; where recipes differ, then those of each recipe with their losses."""
    charts = [epochs_chart(part) for part in (study, *parts_by_recipe(study))]
    return [chart for chart in charts if chart]


def parts_by_recipe(study: Study) -> list[Study]:
    """The study's variants of each recipe, whose losses compare; [] where there is one recipe."""
    recipes = list(dict.fromkeys(str(row.get("recipe")) for row in study.rows))
    if len(recipes) < 2:
        return []
    parts = []
    for recipe in recipes:
        rows = [row for row in study.rows if str(row.get("recipe")) == recipe]
        change = {"name": f"{study.name}-{Path(recipe).stem}", "rows": rows}
        parts.append(replace(study, content=study.content | change))
    return parts


def epochs_chart(study: Study) -> Chart | None:
    """Losses and CIDEr-D on dev by epoch, a line for each variant; None of a single epoch."""
    courses = study_courses(study)
    if not courses:
        return None
    caption = (
        f"Loss in training (dotted) and on dev (solid){' above' if _same_losses(study) else ''}, "
        f"CIDEr-D on dev by epoch. Mean over {_seeds(study)}; bands are their standard deviation."
    )
    if not _same_losses(study):
        caption = (
            f"CIDEr-D on dev by epoch. Mean over {_seeds(study)}; bands are their standard "
            "deviation. Losses of different recipes do not compare and are not drawn together."
        )
    return progress_chart(f"study-{study.name}-epochs", courses, caption)


def study_courses(study: Study) -> list[Course]:
    """The variants' means by epoch; without losses where recipes differ, [] of single epochs."""
    keys = EPOCH_PARTS if _same_losses(study) else {SCORE: EPOCH_PARTS[SCORE]}
    found = []
    for row in study.rows:
        points = {
            name: [
                (epoch, scale * mean, scale * std) for epoch, mean, std in epoch_points(row, key)
            ]
            for name, (key, scale) in keys.items()
        }
        points = {name: of_it for name, of_it in points.items() if len(of_it) > 1}
        values = {name: {at: mean for at, mean, _ in part} for name, part in points.items()}
        spreads = {
            name: {at: std for at, _, std in part}
            for name, part in points.items()
            if name != LOSS  # a third band in a panel hides the others
        }
        if values:
            found.append(Course(str(row["variant"]), "epoch", values, spreads))
    return found


def _same_losses(study: Study) -> bool:
    """Whether losses of the variants compare: the same dev images and the same recipe."""
    return study.comparable and len({row.get("recipe") for row in study.rows}) == 1


def _scored_on(study: Study) -> str:
    """The split and its size, in words."""
    split = study.content["split"]
    images = f", {split['images']:,} images" if isinstance(split.get("images"), int) else ""
    return f"{_split_label(study)}{images}. "


def _split_label(study: Study) -> str:
    """Name of the split that is scored."""
    return str(study.content["split"].get("name") or "split unknown")


def _spread(study: Study) -> str:
    """What the error bars are."""
    if max(_finished(study)) < 2:
        return f"{_seeds(study)[0].upper()}{_seeds(study)[1:]}."
    return f"Mean and standard deviation of {_seeds(study)}."


def _finished(study: Study) -> list[int]:
    """How many seeds are finished in the rows that have any."""
    return sorted({row.get("n", 0) for row in study.rows if row.get("n")}) or [0]


def _seeds(study: Study) -> str:
    """How many seeds a mean is of, in words."""
    planned, finished = len(study.content["seeds"]), _finished(study)
    if finished == [planned]:
        return "one seed" if planned == 1 else f"{planned} seeds"
    counted = " to ".join(str(count) for count in dict.fromkeys((finished[0], finished[-1])))
    return f"the {counted} finished of {planned} seeds"
