"""Figures of an embedding map: points by topic and kind, photos at their places."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prefixcap.report.charts import QUIET, SERIES, Chart, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT_INCHES = 4.4
CELLS = 13  # photos stand in a grid of so many cells a side, at most one in each
MOST_LABELS, LONGEST_LABEL = 120, 20  # texts up to so many, so long, are written at their places
LABEL_POINTS = 5.0
KINDS = {"image": ("images", "o"), "caption": ("captions", "^"), "text": ("texts", "^")}
READING = "Near points are alike; distances between far ones, and the axes, mean nothing."


@dataclass(frozen=True)
class Point:
    """One image or text on a map.

    Attributes:
        kind: "image", "caption" or "text".
        x: first dimension, no unit.
        y: second dimension, no unit.
        topic: what it is about, "" for none of the map's topics.
        text: a short label, written where there is room.
    """

    kind: str
    x: float
    y: float
    topic: str = ""
    text: str = ""


def points_of(content: Mapping[str, Any]) -> list[Point]:
    """The points in the JSON of a map.

    Raises:
        KeyError, TypeError, ValueError: they are not as docs/report.md says.
    """
    points = [
        Point(
            str(one["kind"]),
            float(one["x"]),
            float(one["y"]),
            str(one.get("topic") or ""),
            str(one.get("text") or ""),
        )
        for one in content["points"]
    ]
    for point in points:
        KINDS[point.kind]
    return points


def point_charts(name: str, content: Mapping[str, Any]) -> list[Chart]:
    """One chart of all kinds where they share a space, else one for each kind.

    Args:
        name: of the map, unique in a report.
        content: JSON of a map; `captions` there, by kind, say what the charts show.

    Raises:
        KeyError, TypeError, ValueError: it is not as docs/report.md says.
    """
    points = points_of(content)
    kinds = list(dict.fromkeys(point.kind for point in points))
    topics = [str(topic) for topic in content.get("topics") or ()]
    method = str(content.get("method") or "map")
    captions = content.get("captions") or {}
    groups = [kinds] if content.get("joint", True) else [[kind] for kind in kinds]
    charts = []
    for group in groups:
        chosen = [point for point in points if point.kind in group]
        named = " and ".join(KINDS[kind][0] for kind in group)
        plain = f"Embeddings of {len(chosen):,} {named} by {method}, {name}. {READING}"
        caption = str(captions.get(group[0]) or plain)
        title = f"map-{name}" if group is groups[0] else f"map-{name}-{KINDS[group[0]][0]}"
        charts.append(_point_chart(title, caption, chosen, topics, method))
    return charts


def _point_chart(
    name: str, caption: str, points: Sequence[Point], topics: Sequence[str], method: str
) -> Chart:
    """A chart of points, by colour of topic and mark of kind."""
    kinds = list(dict.fromkeys(point.kind for point in points))
    written = [p for p in points if p.kind == "text" and 0 < len(p.text) <= LONGEST_LABEL]
    labels = written if len(written) <= MOST_LABELS else []

    def paint(axes: "Axes") -> None:
        for number, topic in enumerate(["", *topics]):
            for kind in kinds:
                chosen = [p for p in points if p.kind == kind and p.topic == topic]
                if chosen and not (kind == "text" and labels):
                    look = _look(kind, topic, number, topics)
                    axes.plot([p.x for p in chosen], [p.y for p in chosen], **look)
        for one in labels:
            axes.text(one.x, one.y, one.text, fontsize=LABEL_POINTS, ha="center", va="center")
        label_axes(axes, method)

    return draw(name, caption, paint, HEIGHT_INCHES)


def _look(kind: str, topic: str, number: int, topics: Sequence[str]) -> dict[str, Any]:
    """Marks of a kind and topic; what has no topic is grey where others have one."""
    label, marker = KINDS[kind]
    if topics:
        colour = SERIES[(number - 1) % len(SERIES)] if topic else QUIET
        label = topic or f"other {label}"
    else:
        colour = SERIES[list(KINDS).index(kind)]
    alpha = 0.8 if topic or not topics else 0.25
    look = {"color": colour, "marker": marker, "label": label, "alpha": alpha}
    return {**look, "linestyle": "none", "markersize": 3, "markeredgewidth": 0}


def label_axes(axes: "Axes", method: str) -> None:
    """Names of the two dimensions, which have neither unit nor scale."""
    axes.set_xlabel(f"{method}, first dimension (no unit)")
    axes.set_ylabel(f"{method}, second dimension (no unit)")
    axes.tick_params(labelbottom=False, labelleft=False, length=0)


def photo_places(points: Sequence[Point], cells: int = CELLS) -> dict[int, tuple[int, int]]:
    """Which points stand for the cells of a grid over the map: place of the point -> its cell.

    Of the points in a cell it is the one nearest to the middle, so that no two photos overlap.
    """
    where = np.array([(p.x, p.y) for p in points])  # (M, 2)
    low, high = where.min(0), where.max(0)
    scaled = (where - low) / np.maximum(high - low, 1e-12) * cells * (1 - 1e-9)  # in cells
    chosen: dict[tuple[int, int], int] = {}
    order = np.abs(scaled % 1 - 0.5).max(1).argsort(kind="stable")
    for place in order.tolist():
        chosen.setdefault((int(scaled[place, 0]), int(scaled[place, 1])), place)
    return {place: cell for cell, place in chosen.items()}


def photo_chart(
    name: str, method: str, photos: Mapping[tuple[int, int], np.ndarray], shown_of: int
) -> Chart:
    """A chart of square photos (S, S, 3) uint8 in the cells of the grid, see `photo_places`."""

    def paint(axes: "Axes") -> None:
        for (column, row), pixels in photos.items():
            extent = (column + 0.03, column + 0.97, row + 0.03, row + 0.97)
            axes.imshow(pixels, extent=extent, interpolation="lanczos")
        axes.set_xlim(0, CELLS)
        axes.set_ylim(0, CELLS)
        axes.set_aspect("equal")
        axes.grid(visible=False)
        label_axes(axes, method)

    caption = (
        f"{len(photos)} of the {shown_of:,} images of the map, each in its place: of those in a "
        f"cell of the grid the one nearest to its middle. {READING}"
    )
    return draw(name, caption, paint, 4.6)
