"""The figures of a study as files: drawn as the report draws them."""

from pathlib import Path

from prefixcap.atomic import write_bytes, write_text
from prefixcap.report_study import read_study
from prefixcap.report_study_figures import study_charts


def write_figures(folder: Path) -> list[Path]:
    """Files of the study's figure, `figure.svg`, `.pdf` and `.png`; none where nothing is drawn.

    A study of epochs has one figure for each quantity, whose name is that of the report's chart.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    charts = study_charts(read_study(folder))
    written = []
    for chart in charts:
        path = folder / ("figure" if len(charts) == 1 else chart.name)
        write_text(path.with_suffix(".svg"), chart.svg)
        write_bytes(path.with_suffix(".pdf"), chart.pdf)
        write_bytes(path.with_suffix(".png"), chart.png)
        written += [path.with_suffix(f".{ending}") for ending in ("svg", "pdf", "png")]
    return written
