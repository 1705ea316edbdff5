"""Charts of a report in one style: SVG that follows the page's colours, SVG and PDF for papers."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefixcap.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PNG_DPI = 200
WIDTH_INCHES = 4.6  # on a phone of 390 px its 9 point letters are then 10 px high
LEGEND_ROW_INCHES = 0.18
INK, QUIET, GRID = "#1d1c1a", "#66625b", "#dedad2"
# Okabe & Ito 2008, told apart in every colour blindness; yellow is too pale on white, grey stands
# for it. The page has a lighter set for dark screens.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
VARIABLES = {
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    GRID: "var(--line)",
    **{colour: f"var(--series-{place})" for place, colour in enumerate(SERIES)},
}


@dataclass(frozen=True)
class Chart:
    """A figure of a report.

    Attributes:
        name: of its files, without an ending.
        caption: what it shows and how to read it.
        svg: for a file, in the colours of a light page.
        figure: the drawing itself.
    """

    name: str
    caption: str
    svg: str
    figure: "Figure"

    @property
    def pdf(self) -> bytes:
        """The figure as PDF."""
        with style():
            return _written(self.figure, "pdf")

    @property
    def png(self) -> bytes:
        """The figure as pixels on white."""
        with style():
            return _written(self.figure, "png")

    @property
    def inline(self) -> str:
        """The drawing for a page: its colours are the page's, its ids its own."""
        start = self.svg.index("<svg")
        body = re.sub(r"<metadata>.*?</metadata>", "", self.svg[start:], flags=re.DOTALL)
        for colour, variable in VARIABLES.items():
            body = body.replace(colour, variable)
        for mark in ('id="', 'href="#', "url(#"):
            body = body.replace(mark, f"{mark}{self.name}-")
        return re.sub(r'<svg ([^>]*?)width="[^"]+" height="[^"]+"', r"<svg \1", body, count=1)


def draw(
    name: str, caption: str, paint: Callable[["Axes"], None], height_inches: float = 3.0
) -> Chart:
    """A chart whose one pair of axes `paint` fills.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return draw_panels(name, caption, [paint], height_inches)


def draw_panels(
    name: str,
    caption: str,
    paints: Sequence[Callable[["Axes"], None]],
    height_inches: float,
) -> Chart:
    """A chart of panels one below the other over the same axis; each fills one of them.

    The legend has what the first panel names. Its rows beyond the first make the chart higher.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with style() as figure_class:
        figure = figure_class(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        panels = figure.subplots(len(paints), sharex=True, squeeze=False)[:, 0]
        for paint, axes in zip(paints, panels, strict=True):
            paint(axes)
            axes.label_outer()
        figure.align_ylabels()
        _place_legend(figure, panels[0])
        svg = _written(figure, "svg").decode("utf-8")
        figure.set_layout_engine("none")  # all is in its place; further files take it from there
    return Chart(re.sub(r"[^\w.-]+", "-", name), caption, svg, figure)


@contextmanager
def style() -> Iterator[Callable[..., "Figure"]]:
    """matplotlib's figure class, its settings those of the report inside the block.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report", "A report") from error
    settings: dict[str, Any] = {
        "font.size": 9,
        "axes.edgecolor": QUIET,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "text.color": INK,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "lines.linewidth": 1.6,
        "svg.fonttype": "path",
        "svg.hashsalt": "prefixcap",
        "pdf.fonttype": 42,
        "savefig.transparent": True,
    }
    with matplotlib.rc_context(settings):
        yield Figure


def look(place: int) -> dict[str, Any]:
    """Colour, dash and marker of the series at `place`; they differ in two ways at least."""
    return {
        "color": SERIES[place % len(SERIES)],
        "linestyle": DASHES[place // len(SERIES) % len(DASHES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 4,
    }


def shortened(name: str, longest: int = 34) -> str:
    """The name, its middle left out where it is too long for a chart."""
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _place_legend(figure: "Figure", axes: "Axes") -> None:
    """A legend below the axes, in as many columns as its names leave room for.

    The figure grows by what its rows beyond the first take, so that the axes keep their size.
    """
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) < 2:
        return
    columns = max(1, min(len(labels), 62 // (max(map(len, labels)) + 7)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + (rows - 1) * LEGEND_ROW_INCHES)


def _written(figure: "Figure", kind: str) -> bytes:
    """The figure as a file; without a date, so that the same figure is the same file."""
    out = io.BytesIO()
    date = {"svg": "Date", "pdf": "CreationDate", "png": "Software"}[kind]
    opaque = {"transparent": False, "dpi": PNG_DPI} if kind == "png" else {}
    figure.savefig(out, format=kind, metadata={date: None}, **opaque)
    return out.getvalue()
