"""The figure of a study as files: drawn as the report draws it."""

from pathlib import Path

from prefixcap.atomic import write_bytes, write_text
from prefixcap.report.study import read_study
from prefixcap.report.study_figures import study_charts


def write_figures(folder: Path) -> list[Path]:
    """Files of the figure, `figure.svg`, `.pdf` and `.png`; none where nothing is drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    path, written = folder / "figure", []
    for chart in study_charts(read_study(folder)):
        write_text(path.with_suffix(".svg"), chart.svg)
        write_bytes(path.with_suffix(".pdf"), chart.pdf)
        write_bytes(path.with_suffix(".png"), chart.png)
        written += [path.with_suffix(f".{ending}") for ending in ("svg", "pdf", "png")]
    return written
