"""Photos that are trained on and validated on: a recipe with such photos is refused."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from prefixcap.batches import published_id
from prefixcap.datasets import CaptionRecord, photo_source
from prefixcap.errors import InputError


def refuse_shared_photos(
    training: Sequence[CaptionRecord], dev: Sequence[CaptionRecord], source: str
) -> None:
    """Nothing, or an error where photos of `dev` are trained on too.

    Two records have one photo where their paths lead to one place, links followed, or where their
    data sets give them one id and their files have the same bytes, as those of two copies have.

    Raises:
        InputError: how many photos are shared, and one of them.
    """
    found = shared_photos(training, dev) if dev else []
    if found:
        raise InputError(
            f"{source}: {len(found):,} of the {len(dev):,} photos of [[dev]] are trained on too, "
            f"such as {found[0].path}, so validation would not see what was learned by heart. Give "
            "[[data]] and [[dev]] different photos, by split, names or rows, or leave [[dev]] out"
        )


def shared_photos(
    training: Sequence[CaptionRecord], dev: Sequence[CaptionRecord]
) -> list[CaptionRecord]:
    """Records of `dev` whose photos are trained on too."""
    places = set(_places(training))
    wanted = {published_id(record) for record in dev}
    same_id: dict[str, list[Path]] = {}
    for record in training:
        key = published_id(record)
        if key in wanted:
            same_id.setdefault(key, []).append(record.path)
    return [
        record
        for record, place in zip(dev, _places(dev), strict=True)
        if place in places or _has_copy(record.path, same_id.get(published_id(record), []))
    ]


def _places(records: Iterable[CaptionRecord]) -> Iterable[str]:
    """Where each photo is, links followed; a folder, or a shard, is looked at once."""
    folders: dict[str, str] = {}
    for record in records:
        folder, name = os.path.split(record.path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        place = f"{folders[folder]}/{name}"
        yield os.path.realpath(place) if os.path.islink(place) else place


def _has_copy(photo: Path, others: Iterable[Path]) -> bool:
    """Whether one of the other photos has the same bytes; what cannot be read is no copy."""
    content = _content(photo) if others else b""
    return bool(content) and any(_content(other) == content for other in others)


def _content(path: Path) -> bytes:
    """Bytes of a photo, none where it cannot be read."""
    try:
        source = photo_source(path)
        return source.read_bytes() if isinstance(source, Path) else source
    except (OSError, InputError):
        return b""
