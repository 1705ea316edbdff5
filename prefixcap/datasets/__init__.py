"""Captioned photo datasets: one module per published format, one call to read any of them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from prefixcap.datasets import (
    coco,
    conceptual,
    flickr,
    huggingface,
    karpathy,
    nocaps,
    parquet,
    sidecars,
    tables,
    vizwiz,
    webdataset,
)
from prefixcap.datasets.counts import Edition
from prefixcap.datasets.records import CaptionRecord, Remark
from prefixcap.datasets.stored_photos import photo_source
from prefixcap.datasets.trainable import refuse_untrainable
from prefixcap.errors import InputError

__all__ = [
    "READERS",
    "CaptionRecord",
    "Remark",
    "edition",
    "photo_source",
    "read",
    "refuse_untrainable",
    "remarks",
]

Reader = Callable[[Path, str | None, Path | None], list[CaptionRecord]]
Remarker = Callable[[Path, str | None, Path | None], list[Remark]]

READERS: dict[str, Reader] = {
    "coco": coco.read,
    "coco-karpathy": partial(karpathy.read, dataset="coco"),
    "nocaps": nocaps.read,
    "conceptual": conceptual.read,
    "vizwiz": vizwiz.read,
    "vizwiz-usable": vizwiz.read_usable,
    "flickr8k": flickr.read_flickr8k,
    "flickr8k-karpathy": partial(karpathy.read, dataset="flickr8k"),
    "flickr30k": flickr.read_flickr30k,
    "karpathy": karpathy.read,
    "folder": sidecars.read,
    "csv": tables.read_csv,
    "tsv": tables.read_tsv,
    "jsonl": tables.read_jsonl,
    "parquet": parquet.read,
    "webdataset": webdataset.read,
    "huggingface": huggingface.read,
}

# Formats in which several datasets, or several years of one, are published.
_EDITIONS: dict[str, Callable[[Path, str | None], Edition]] = {
    "coco": coco.edition,
    "conceptual": conceptual.edition,
    "karpathy": karpathy.edition,
}

_REMARKERS: dict[str, Remarker] = {
    "conceptual": conceptual.remarks,
    "csv": tables.csv_remarks,
    "folder": sidecars.remarks,
    "tsv": tables.tsv_remarks,
    "vizwiz": vizwiz.remarks,
    "vizwiz-usable": vizwiz.remarks,
    "webdataset": webdataset.remarks,
}


def read(
    name: str, path: Path, split: str | None = None, images: Path | None = None
) -> list[CaptionRecord]:
    """Records of the dataset `name` at `path`, in published order; docs/data.md has the layouts.

    Args:
        name: one of `READERS`.
        path: annotation file or dataset folder; for "huggingface" a name on the hub.
        split: as published; None for every split there is.
        images: folder of the photos where it cannot be found beside the annotations.

    Raises:
        InputError: unknown name, or whatever is wrong with the files, in one line.
    """
    if name not in READERS:
        known = ", ".join(READERS)
        raise InputError(f'"{name}" is no dataset that can be read. Choose one of: {known}.')
    path = Path(path)
    if name != "huggingface" and not path.exists():
        raise InputError(f"{path}: not there. Give the folder or annotation file of {name}.")
    return READERS[name](path, split, Path(images) if images is not None else None)


def edition(name: str, path: Path, split: str | None = None) -> Edition:
    """Which published sizes a dataset is to have; arguments and errors as in `read`."""
    return _EDITIONS[name](Path(path), split) if name in _EDITIONS else Edition(name)


def remarks(
    name: str, path: Path, split: str | None = None, images: Path | None = None
) -> list[Remark]:
    """What the files of a dataset say beyond its records; arguments and errors as in `read`."""
    if name not in _REMARKERS:
        return []
    return _REMARKERS[name](Path(path), split, Path(images) if images is not None else None)
