"""Photos that are trained on and validated on: a recipe with such photos is refused."""

import os
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

from prefixcap.batches import published_id
from prefixcap.datasets import CaptionRecord, photo_source
from prefixcap.errors import InputError

NO_LINKS: Set[str] = frozenset()  # one for all folders without, of which there may be many


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
            "[[data]] and [[dev]] different photos, by split, names, share or rows, or leave out "
            "[[dev]]"
        )


def shared_photos(
    training: Sequence[CaptionRecord], dev: Sequence[CaptionRecord]
) -> list[CaptionRecord]:
    """Records of `dev` whose photos are trained on too.

    Nothing is kept of the other records to train on, of which there may be millions.
    """
    folders = _Folders()
    places = [folders.place(record.path) for record in dev]
    wanted, wanted_ids = set(places), {published_id(record) for record in dev}
    trained: set[str] = set()
    same_id: dict[str, list[Path]] = {}
    for record in training:
        place, key = folders.place(record.path), published_id(record)
        if place in wanted:
            trained.add(place)
        if key in wanted_ids:
            same_id.setdefault(key, []).append(record.path)
    return [
        record
        for record, place in zip(dev, places, strict=True)
        if place in trained or _has_copy(record.path, same_id.get(published_id(record), []))
    ]


class _Folders:
    """Where photos are, links followed; each folder, or shard, is looked at once."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[str, Set[str] | None]] = {}

    def place(self, path: Path) -> str:
        """Where a photo is."""
        folder, name = os.path.split(path)
        if folder not in self.seen:
            self.seen[folder] = os.path.realpath(folder), _links(folder)
        real, links = self.seen[folder]
        place = f"{real}/{name}"
        is_link = os.path.islink(place) if links is None else name in links
        return os.path.realpath(place) if is_link else place


def _links(folder: str) -> Set[str] | None:
    """Names of the links in a folder, none in a shard; None where it cannot be listed.

    A listing says of each name whether it is a link, so that the files are not looked at.
    """
    try:
        with os.scandir(folder or ".") as entries:
            return {entry.name for entry in entries if entry.is_symlink()} or NO_LINKS
    except (FileNotFoundError, NotADirectoryError):
        return NO_LINKS
    except OSError:
        return None


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
