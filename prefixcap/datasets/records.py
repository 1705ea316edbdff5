"""Captioned photos as every reader yields them, and the caption text as published."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prefixcap.errors import InputError

# Only ASCII white space: U+2028, U+0085 and the like stay, so that `data check` can name them.
_WHITE_SPACE = re.compile(r"[ \t\n\r\f\v]+")


@dataclass(frozen=True, slots=True)
class CaptionRecord:
    """One photo with its captions.

    Attributes:
        image_id: the photo's name in its dataset, unique within one split.
        path: the photo; a member of a tar shard is `SHARD.tar/MEMBER` (see `shards`).
        captions: as published, in published order; empty where a split has none.
        split: as published ("train", "val", "test", "dev", "restval").
        domain: nocaps: "in-domain", "near-domain" or "out-domain"; elsewhere None.
    """

    image_id: str
    path: Path
    captions: tuple[str, ...]
    split: str
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """What a dataset's own files say beyond its records: worth knowing, and nothing wrong.

    Attributes:
        what: the thing, in the plural.
        count: how many there are.
        examples: what `data check` may name of them, each in one line.
        advice: what it means, or what to do.
    """

    what: str
    count: int
    examples: tuple[str, ...]
    advice: str


def refuse_shared_ids(
    records: Iterable[CaptionRecord], source: Path | str, *, across_splits: bool = False
) -> None:
    """Nothing, or an error for an id of two photos: captions of one would be told of the other.

    `across_splits`: the same id in two splits counts too.

    Raises:
        InputError: two records have the same id and different photos.
    """
    photos: dict[tuple[str, str], Path] = {}
    for record in records:
        key = "" if across_splits else record.split, record.image_id
        other = photos.setdefault(key, record.path)
        if other != record.path:
            raise shared_id(record.image_id, other, record.path, source)


def shared_id(image_id: str, first: Path, second: Path, source: Path | str) -> InputError:
    """The error for an id of two photos."""
    return InputError(
        f'{source}: the id "{image_id}" is of two photos, {first} and {second}. Give each photo an '
        "id of its own; in a table that is column image_id or id."
    )


def clean_caption(text: str) -> str:
    """Caption with runs of blanks, tabs and line ends as one blank, none at either end."""
    return _WHITE_SPACE.sub(" ", text).strip(" ")


def select_split(
    records: Iterable[CaptionRecord], split: str | None, source: Path
) -> list[CaptionRecord]:
    """Records of `split`, or all of them for None.

    Raises:
        InputError: `source` has no such split; the message lists those it has.
    """
    records = list(records)
    if split is None:
        return records
    chosen = [record for record in records if record.split == split]
    if not chosen:
        found = ", ".join(sorted({record.split for record in records})) or "none"
        raise InputError(f'{source}: no split "{split}". Ask for one of those it has: {found}.')
    return chosen
