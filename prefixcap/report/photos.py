"""References and photos of scored images, found again where they were read for the scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefixcap import datasets
from prefixcap.datasets.records import CaptionRecord
from prefixcap.datasets.stored_photos import photo_source
from prefixcap.errors import InputError
from prefixcap.images import open_rgb
from prefixcap.recipe import expand
from prefixcap.report.runs import Entry
from prefixcap.score_sheet import references_digest
from prefixcap.web_page import photo_uri

PARTS = ("test", "dev", "data")  # of a recipe
THUMBNAIL_PX = 360  # long side; phones show them twice as dense


@dataclass(frozen=True)
class Found:
    """Records of scored images by id, or the reason why there are none."""

    records: Mapping[str, CaptionRecord]
    reason: str = ""


@dataclass(frozen=True)
class _Place:
    """Where a dataset may be."""

    path: str
    images: str | None
    split: str | None


class RecordFinder:
    """Finds the records that scores belong to, and reads each dataset once.

    Args:
        moved: dataset format -> its path here, for those that are not where they were.
    """

    def __init__(self, moved: Mapping[str, Path]) -> None:
        self.moved = moved
        self.read: dict[tuple[str, _Place], list[CaptionRecord]] = {}

    def find(self, entries: Sequence[Entry]) -> Found:
        """The records that comparable scores belong to, as the first of them says."""
        reasons = []
        for place in dict.fromkeys(_places(entries, self.moved)):
            try:
                records = self._records(entries[0], place)
            except (InputError, OSError) as error:
                reasons.append(str(error))
                continue
            digest = references_digest(list(records.values()))
            if digest == entries[0].sheet.facts.get("references"):
                return Found(records)
            reasons.append(f"{place.path}: other images or references than those that were scored")
        hint = f"Name the place: --data {entries[0].dataset}=PATH"
        return Found(
            {}, f"{reasons[0] if reasons else 'where they were read is not known'}. {hint}"
        )

    def _records(self, entry: Entry, place: _Place) -> dict[str, CaptionRecord]:
        """Records of the scored images, in the order of their scores."""
        key = (entry.dataset, place)
        if key not in self.read:
            images = expand(place.images) if place.images else None
            self.read[key] = datasets.read(entry.dataset, expand(place.path), place.split, images)
        by_id = {record.image_id: record for record in self.read[key] if record.captions}
        captions = entry.sheet.captions
        return {image_id: by_id[image_id] for image_id in captions if image_id in by_id}


def thumbnail(record: CaptionRecord, longest_px: int = THUMBNAIL_PX) -> str:
    """The record's photo as a JPEG inside a data URI.

    Raises:
        InputError: it cannot be opened.
    """
    return photo_uri(open_rgb(photo_source(record.path)), longest_px)


def _places(entries: Sequence[Entry], moved: Mapping[str, Path]) -> Iterator[_Place]:
    """Where the data may be: as the user says, as the scores say, as the recipes say.

    The scores of studies name the part of the recipe, so its tables say which split is meant.
    """
    dataset, split = entries[0].dataset, entries[0].split
    named = None if split == "all" else split
    tables = [
        source
        for entry in entries
        for source in _sources(entry.run.recipe)
        if source.get("format") == dataset and source.get("path")
    ]
    if dataset in moved:
        for part in dict.fromkeys([named, *(source.get("split") for source in tables)]):
            yield _Place(str(moved[dataset]), None, part)
        return
    for entry in entries:
        data = entry.sheet.facts.get("data")
        if isinstance(data, dict) and data.get("path"):
            yield _Place(data["path"], data.get("images"), named)
    for source in tables:
        yield _Place(source["path"], source.get("images"), source.get("split"))


def _sources(recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Data sets of a recipe, those that training never sees first."""
    parts: Sequence[Any] = [part for name in PARTS for part in recipe.get(name) or ()]
    return [part for part in parts if isinstance(part, dict)]
