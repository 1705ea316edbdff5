"""The figures of a study as files: drawn as the report draws them."""

from pathlib import Path

from prefixcap.atomic import write_bytes, write_text
from prefixcap.report.study import read_study
from prefixcap.report.study_figures import study_charts


def write_figures(folder: Path) -> list[Path]:
    """Files of the figures: `figure.svg`, `.pdf` and `.png`, then `figure-2.svg` and so on.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    written = []
    for number, chart in enumerate(study_charts(read_study(folder)), 1):
        path = folder / ("figure" if number == 1 else f"figure-{number}")
        write_text(path.with_suffix(".svg"), chart.svg)
        write_bytes(path.with_suffix(".pdf"), chart.pdf)
        write_bytes(path.with_suffix(".png"), chart.png)
        written += [path.with_suffix(f".{ending}") for ending in ("svg", "pdf", "png")]
    return written
