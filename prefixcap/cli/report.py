"""`prefixcap report`: runs, scores and studies on one HTML page, with figures and tables."""

from pathlib import Path
from typing import Annotated

import typer

from prefixcap.errors import InputError


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUNS...", help="Folders of runs, scores or studies.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the page index.html.")] = Path("report"),
    title: Annotated[str, typer.Option(help="Of the page.")] = "Captioning report",
    photos: Annotated[int, typer.Option(min=0, help="First photos of each split.")] = 12,
    extremes: Annotated[int, typer.Option(min=0, help="Best and worst photos of a model.")] = 3,
    data: Annotated[
        list[str] | None,
        typer.Option(help="FORMAT=PATH of a dataset that is not where it was scored."),
    ] = None,
) -> None:
    """Show runs beside the papers' rows on one HTML page; figures and tables as files, too.

    Exit code 1 where a file of a run cannot be read; the page says which.
    """
    from prefixcap.report.content import ReportOptions
    from prefixcap.report.page import write_report

    options = ReportOptions(title, photos, extremes, dict(map(_moved, data or ())))
    written = write_report(runs, out, options)
    for line in written.problems:
        typer.echo(line, err=True)
    typer.echo(f"{len(written.files)} figures and tables in {out}")
    typer.echo(f"Open {written.page} in a browser.")
    if written.broken:
        raise typer.Exit(1)


def _moved(text: str) -> tuple[str, Path]:
    """Format and path in "FORMAT=PATH".

    Raises:
        InputError: it is not of that form.
    """
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise InputError(f'--data: "{text}" is not FORMAT=PATH, such as flickr8k=data/flickr8k')
    return name, Path(path)
