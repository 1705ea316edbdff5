"""`prefixcap demo`: sample photographs, captioned, on one HTML page."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the page index.html.")] = Path("demo"),
    model: Annotated[str, typer.Option(help="Built-in name, folder or hub name.")] = "mini",
) -> None:
    """Caption scikit-image's sample photographs and show them on one HTML page."""
    from prefixcap.captioner import Captioner
    from prefixcap.demo import caption_photos, sample_photos, write_page

    photos = sample_photos()
    entries = caption_photos(Captioner.from_pretrained(model), photos)
    page = write_page(entries, model, out)
    for entry in entries:
        typer.echo(f"{entry.name}: {entry.captions[0].text}")
    typer.echo(f"Open {page} in a browser.")
