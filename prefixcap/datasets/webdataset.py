"""WebDataset tar shards: files that share a name up to the first dot are one sample.

The photo is `.jpg`, `.jpeg`, `.png` or `.webp`; the captions are `.txt` (one), or `caption` or
`captions` in `.json`. img2dataset writes such shards. Names with more dots are other parts of a
sample (`k.seg.jpg` beside `k.jpg`), or, with a caption of their own, samples of their own
(`my.dog.jpg` with `my.dog.txt`).
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from prefixcap.datasets.annotations import is_document
from prefixcap.datasets.records import CaptionRecord, Remark, clean_caption, select_split
from prefixcap.datasets.shards import read_texts
from prefixcap.errors import InputError
from prefixcap.photo_search import PICTURE_SUFFIXES

PHOTO_SUFFIXES = ("jpg", "jpeg", "png", "webp")
_KINDS = ", ".join(f".{suffix}" for suffix in PHOTO_SUFFIXES)
_TEXT_SUFFIXES = ("txt", "json")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

_WORDS = re.compile(r"[a-z0-9]+")


@dataclass
class Sample:
    """The parts of one sample, as they come out of the shard."""

    key: str
    photo: str | None = None
    unread: str | None = None  # a picture of a kind that is not looked for in shards
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
        InputError: no shard, one cut off, no sample with a photo, a photo without captions, a key
            twice in a shard, or no such split.
    """
    records: list[CaptionRecord] = []
    without: list[str] = []
    for shard in _shards(path):
        name = split_of(shard)
        for sample in samples(shard):
            if sample.photo is not None:
                captions = _captions(sample, shard)
                key = f"{name}/{sample.key}"
                records.append(CaptionRecord(key, shard / sample.photo, captions, name))
            elif _wants_photo(sample):
                without.append(f"{shard}, {sample.key}")
    if without and not records:
        raise InputError(
            f"{path}: none of {len(without)} samples has a photo ({_KINDS}), such as {without[0]}. "
            "Convert or add their photos."
        )
    return select_split(records, split, path)


def remarks(path: Path, split: str | None = None, images: Path | None = None) -> list[Remark]:
    """Samples that `read` leaves out for want of a photo; `images` is not used."""
    without = tuple(
        f"{shard}, {sample.key}"
        for shard in _shards(path)
        if split in (None, split_of(shard))
        for sample in samples(shard)
        if sample.photo is None and _wants_photo(sample)
    )
    advice = f"Left out; only {_KINDS} are read out of shards"
    what = "captions and odd pictures without a photo"
    return [Remark(what, len(without), without, advice)] if without else []


def _shards(path: Path) -> list[Path]:
    """The shard itself, or all of a folder."""
    shards = [path] if path.is_file() else sorted(path.rglob("*.tar"))
    if not shards:
        raise InputError(f"{path}: no .tar shard in it. Give the folder of the shards.")
    return shards


def _wants_photo(sample: Sample) -> bool:
    """Whether a sample without a photo was meant to have one."""
    is_text = is_document(sample.key.rpartition("/")[2])
    return not is_text and (bool(sample.captions()) or sample.unread is not None)


def samples(shard: Path) -> Iterator[Sample]:
    """Samples of one shard, in its order.

    Raises:
        InputError: the shard is cut off, or the JSON of a sample is; a key is there twice, or two
            photos with one key.
    """
    seen: set[str] = set()
    files = (file for file in read_texts(shard, (".txt", ".json")) if not _is_hidden(file[0]))
    for key, group in groupby(files, key=lambda file: _key(file[0])):
        for sample in _parted(key, group, shard):
            if sample.key in seen:
                raise InputError(
                    f"{shard}: the key {sample.key} is there twice, with other samples between. "
                    "Write the shard again, each key once and its files side by side."
                )
            seen.add(sample.key)
            yield sample


def split_of(shard: Path) -> str:
    """Split that the name of a shard (`train-0001`) or the end of its folder's (`cc3m-val`) states.

    "train" where neither does.
    """
    words = (
        re.findall(r"[a-z]+", shard.stem.lower()) + _WORDS.findall(shard.parent.name.lower())[-1:]
    )
    return next((_SPLITS[word] for word in words if word in _SPLITS), "train")


def _is_hidden(path: str) -> bool:
    """True for files such as `._dog.jpg`, which macOS adds."""
    return path.rpartition("/")[2].startswith(".")


def _key(path: str) -> str:
    """The name up to its first dot, with the folders before it."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def _parted(key: str, files: Iterable[tuple[str, bytes]], shard: Path) -> list[Sample]:
    """The sample of `key`, and those of longer names that have a photo and captions themselves.

    Where `key` itself has no photo, the longer names are no parts of it: all of them are samples.
    """
    found = {key: Sample(key)}
    for path, content in files:
        stem, _, suffix = path.rpartition(".")
        if suffix.lower() in _TEXT_SUFFIXES or f".{suffix.lower()}" in PICTURE_SUFFIXES:
            _add(found.setdefault(stem, Sample(stem)), path, suffix.lower(), content, shard)
    first, *others = found.values()
    if first.photo is not None:
        return [first, *(one for one in others if one.photo is not None and one.captions())]
    return [first, *others] if first != Sample(key) else others


def _add(sample: Sample, name: str, suffix: str, content: bytes, shard: Path) -> None:
    """Put one file of a shard into its sample."""
    if suffix in PHOTO_SUFFIXES:
        if sample.photo is not None:
            raise InputError(
                f"{shard}: {sample.photo} and {name} are photos of one sample, expected one. Name "
                f"the other {sample.key}.other.{suffix}, or leave it out."
            )
        sample.photo = name
    elif suffix not in _TEXT_SUFFIXES:
        sample.unread = name
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
