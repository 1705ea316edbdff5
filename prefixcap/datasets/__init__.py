"""Captioned photo datasets: one module per published format, one call to read any of them."""

from collections.abc import Callable
from pathlib import Path

from prefixcap.datasets import coco, flickr
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError

__all__ = ["READERS", "CaptionRecord", "read"]

Reader = Callable[[Path, str | None, Path | None], list[CaptionRecord]]

READERS: dict[str, Reader] = {
    "coco": coco.read,
    "flickr8k": flickr.read_flickr8k,
    "flickr30k": flickr.read_flickr30k,
}


def read(
    name: str, path: Path, split: str | None = None, images: Path | None = None
) -> list[CaptionRecord]:
    """Records of the dataset `name` at `path`, in published order; docs/data.md has the layouts.

    Args:
        name: one of `READERS`.
        path: annotation file or dataset folder.
        split: as published; None for every split there is.
        images: folder of the photos where it cannot be found beside the annotations.

    Raises:
        InputError: unknown name, or whatever is wrong with the files, in one line.
    """
    if name not in READERS:
        known = ", ".join(sorted(READERS))
        raise InputError(f'"{name}" is no dataset that can be read. Choose one of: {known}.')
    if not Path(path).exists():
        raise InputError(f"{path}: not there. Give the folder or annotation file of {name}.")
    return READERS[name](Path(path), split, images)
