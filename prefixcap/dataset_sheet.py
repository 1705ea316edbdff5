"""A look at a dataset: one HTML file with random photos and their captions, nothing to fetch."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from prefixcap.atomic import write_text
from prefixcap.datasets import photo_source, read
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError
from prefixcap.images import Skipped, open_rgb
from prefixcap.web_page import photo_uri, web_page


@dataclass(frozen=True)
class SheetOptions:
    """How many photos a sheet shows, which, and how large."""

    samples: int = 48
    seed: int = 0
    thumbnail_px: int = 240  # long side


@dataclass(frozen=True)
class Sheet:
    """What a sheet shows.

    Attributes:
        photos: on it, those included that could not be read.
        skipped: photos that could not be read; the reason stands in their place.
    """

    photos: int
    skipped: tuple[Skipped, ...]


def show(
    name: str,
    path: Path,
    output: Path,
    split: str | None = None,
    images: Path | None = None,
    options: SheetOptions | None = None,
) -> Sheet:
    """What is on the sheet written to `output`, a random sample of a dataset.

    The same seed gives the same sample. A photo that cannot be opened is shown as the reason.

    Raises:
        InputError: the dataset cannot be read, or fewer than one sample is asked for.
    """
    options = options or SheetOptions()
    if options.samples < 1:
        raise InputError(f"samples is {options.samples}, expected at least 1.")
    records = read(name, path, split, images)
    count = min(options.samples, len(records))
    places = sorted(random.Random(options.seed).sample(range(len(records)), count))
    title = f"{name}: {count} of {len(records):,} images"
    page, skipped = sheet([records[place] for place in places], title, options.thumbnail_px)
    write_text(output, page)
    return Sheet(count, tuple(skipped))


def sheet(
    records: Sequence[CaptionRecord], title: str, thumbnail_px: int
) -> tuple[str, list[Skipped]]:
    """HTML of a sheet with the photos and captions of `records`, and what could not be read.

    All text is escaped.
    """
    skipped: list[Skipped] = []
    figures = "\n".join(_figure(record, thumbnail_px, skipped) for record in records)
    heading = escape(title)
    body = f"<h1>{heading}</h1>\n<main>\n{figures}\n</main>"
    return web_page(heading, body, "dataset_sheet.css"), skipped


def _figure(record: CaptionRecord, thumbnail_px: int, skipped: list[Skipped]) -> str:
    """One photo with its captions, id and split; one that cannot be read is added to `skipped`."""
    label = ", ".join(part for part in (record.image_id, record.split, record.domain) if part)
    captions = "".join(f"<p>{escape(_visible(caption))}</p>" for caption in record.captions)
    try:
        photo = _embedded(open_rgb(photo_source(record.path)), thumbnail_px, label)
    except InputError as error:
        skipped.append(Skipped(record.image_id, str(error)))
        photo = f'<p class="error">{escape(_visible(str(error)))}</p>'
    return (
        f"<figure>{photo}<figcaption>{captions or '<p>(no captions)</p>'}"
        f"<small>{escape(_visible(label))}</small></figcaption></figure>"
    )


def _embedded(image: Image.Image, thumbnail_px: int, label: str) -> str:
    """An img element that holds the picture itself."""
    uri = photo_uri(image, thumbnail_px)
    return f'<img src="{uri}" alt="{escape(_visible(label))}">'


def _visible(text: str) -> str:
    """The text with what no page can show (controls, lone surrogates) written as \\xNN."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
