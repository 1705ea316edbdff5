"""WebDataset tar shards: files that share a name up to the first dot are one sample.

The photo is `.jpg`, `.jpeg`, `.png` or `.webp`; the captions are `.txt` (one), or `caption` or
`captions` in `.json`. img2dataset writes such shards.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefixcap.datasets.records import CaptionRecord, clean_caption, select_split
from prefixcap.datasets.shards import read_texts
from prefixcap.errors import InputError

PHOTO_SUFFIXES = ("jpg", "jpeg", "png", "webp")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

_WORDS = re.compile(r"[a-z0-9]+")


@dataclass
class Sample:
    """The parts of one sample, as they come out of the shard."""

    key: str
    photo: str | None = None
    text: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def captions(self) -> tuple[str, ...]:
        """Captions: of the text file, else of the JSON."""
        if self.text is not None:
            return (clean_caption(self.text),)
        found = self.meta.get("captions", self.meta.get("caption"))
        texts = found if isinstance(found, list) else [found]
        return tuple(clean_caption(text) for text in texts if isinstance(text, str))


def read(path: Path, split: str | None = None, images: Path | None = None) -> list[CaptionRecord]:
    """Records of one shard or of a folder of shards; paths are `SHARD.tar/MEMBER`.

    The split is in the name of the shard or of its folder (`val/00000.tar`, `train-0001.tar`), and
    "train" where neither says. Ids are `SPLIT/KEY`, since keys often start anew in
    each split. `images` is not used: the photos are in the shards.

    Raises:
        InputError: no shard, one cut off, a photo without captions, or no such split.
    """
    shards = [path] if path.is_file() else sorted(path.rglob("*.tar"))
    if not shards:
        raise InputError(f"{path}: no .tar shard in it. Give the folder of the shards.")
    records = [
        CaptionRecord(
            f"{split_of(shard)}/{sample.key}", shard / sample.photo, captions, split_of(shard)
        )
        for shard in shards
        for sample in samples(shard)
        if sample.photo is not None and (captions := _captions(sample, shard))
    ]
    return select_split(records, split, path)


def samples(shard: Path) -> Iterator[Sample]:
    """Samples of one shard, in its order.

    Raises:
        InputError: the shard is cut off, or the JSON of a sample is.
    """
    sample: Sample | None = None
    for path, content in read_texts(shard, (".txt", ".json")):
        folder, _, name = path.rpartition("/")
        stem, _, suffix = name.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = Sample(key)
        _add(sample, path, suffix.lower(), content, shard)
    if sample is not None:
        yield sample


def split_of(shard: Path) -> str:
    """Split that the name of a shard (`train-0001`) or the end of its folder's (`cc3m-val`) states.

    "train" where neither does.
    """
    words = (
        re.findall(r"[a-z]+", shard.stem.lower()) + _WORDS.findall(shard.parent.name.lower())[-1:]
    )
    return next((_SPLITS[word] for word in words if word in _SPLITS), "train")


def _add(sample: Sample, name: str, suffix: str, content: bytes, shard: Path) -> None:
    """Put one file of a shard into its sample; files of other kinds are none of ours."""
    if suffix in PHOTO_SUFFIXES:
        sample.photo = name
    elif suffix == "txt":
        sample.text = content.decode("utf-8", "replace")
    elif suffix == "json":
        try:
            value = json.loads(content)
        except ValueError as error:
            raise InputError(f"{shard}: {name} is not whole JSON. Write it again.") from error
        sample.meta = value if isinstance(value, dict) else {}


def _captions(sample: Sample, shard: Path) -> tuple[str, ...]:
    captions = sample.captions()
    if not captions:
        raise InputError(
            f"{shard}: {sample.photo} has no caption. Expected {sample.key}.txt, or caption or "
            f"captions in {sample.key}.json, beside it in the shard."
        )
    return captions
