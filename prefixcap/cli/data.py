"""`prefixcap data`: whether a dataset can be trained on, and a look at it."""

from pathlib import Path
from typing import Annotated

import typer

from prefixcap.cli.progress import name_skipped, printable
from prefixcap.cli.source import Images, Name, Split, Where
from prefixcap.cli.watch import Watcher
from prefixcap.errors import InputError

app = typer.Typer(help="Check and look at datasets.", no_args_is_help=True)


@app.command()
def check(
    name: Name,
    path: Where,
    split: Split = None,
    images: Images = None,
    photos: Annotated[bool, typer.Option(help="Open every photo.")] = True,
    names_all: Annotated[
        bool, typer.Option("--all", help="Name all that was found, not the first few of a kind.")
    ] = False,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Conceptual Captions: write each row of the TSV, photo or reason, here."),
    ] = None,
) -> None:
    """Compare counts with the published ones; find broken photos, odd captions and leaks.

    The exit code is 1 where the dataset should not be trained on as it is.
    """
    from prefixcap.dataset_check import check as check_dataset
    from prefixcap.datasets.conceptual import write_manifest

    if manifest is not None:
        if name != "conceptual":
            raise InputError(f'--manifest is of links, expected "conceptual", found "{name}".')
        write_manifest(path, manifest, images)
    with Watcher() as watcher:
        found = check_dataset(
            name,
            path,
            split,
            images,
            open_photos=photos,
            on_progress=lambda done, total: watcher.show("photos", done, total),
        )
    typer.echo("\n".join(printable(line) for line in found.lines(names_all=names_all)))
    if found.is_wrong:
        raise typer.Exit(1)


@app.command()
def show(
    name: Name,
    path: Where,
    out: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("dataset.html"),
    split: Split = None,
    images: Images = None,
    samples: Annotated[int, typer.Option(min=1, help="Photos on the page.")] = 48,
    seed: Annotated[int, typer.Option(help="The same seed shows the same photos.")] = 0,
) -> None:
    """Show a random sample of photos with their captions on one HTML page.

    The exit code is 1 where a photo could not be read.
    """
    from prefixcap.dataset_sheet import SheetOptions
    from prefixcap.dataset_sheet import show as write_sheet

    sheet = write_sheet(name, path, out, split, images, SheetOptions(samples, seed))
    unread = f", {len(sheet.skipped)} of them could not be read" if sheet.skipped else ""
    typer.echo(f"Open {out} in a browser: {sheet.photos} photos{unread}.")
    name_skipped(sheet.skipped)
