"""Arguments and options that name a dataset, shared by several commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefixcap.errors import InputError

if TYPE_CHECKING:
    from prefixcap.split_source import Wanted

Name = Annotated[str, typer.Argument(help="Format: flickr8k, coco, nocaps, folder, csv, ...")]
Where = Annotated[Path, typer.Argument(help="Annotation file or dataset folder.")]
Split = Annotated[str | None, typer.Option(help="One split; default: all.")]
Images = Annotated[Path | None, typer.Option(help="Folder of photos, if it is not found.")]

# Where a run's recipe can say what is not said:
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME [PATH]]",
        help="Format of the data and its path; default: the dev data of the run's recipe.",
    ),
]
Data = Annotated[str | None, typer.Option("--data", help="The format, in place of NAME.")]
First = Annotated[int | None, typer.Option(min=1, help="Only so many images.")]


def wanted(
    words: list[str] | None,
    data: str | None,
    split: str | None,
    images: Path | None,
    first: int | None,
) -> "Wanted":
    """What the command line says of the split to score.

    Raises:
        InputError: more than a name and a path.
    """
    from prefixcap.split_source import Wanted

    named = [*([data] if data else []), *(words or [])]
    if len(named) > 2:
        raise InputError(f"data {' '.join(named)}: expected a format and its path, no more")
    name, path = (*named, None, None)[:2]
    return Wanted(name, Path(path) if path else None, split, images, first)
