"""Arguments and options that name a dataset, shared by several commands."""

from pathlib import Path
from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(help="Format: flickr8k, coco, nocaps, folder, csv, ...")]
Where = Annotated[Path, typer.Argument(help="Annotation file or dataset folder.")]
Split = Annotated[str | None, typer.Option(help="One split; default: all.")]
Images = Annotated[Path | None, typer.Option(help="Folder of photos, if it is not found.")]
