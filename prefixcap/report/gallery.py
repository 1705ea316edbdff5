"""Photos of a report with their references and every model's caption: the first, best and worst."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError
from prefixcap.report.errors import (
    PEOPLE,
    ErrorCounts,
    Errors,
    error_counts,
    find_errors,
    human_errors,
    said_by,
    together,
)
from prefixcap.report.photos import thumbnail
from prefixcap.report.runs import Entry

MOST_TOGETHER = 3  # models whose captions stand together below a best or worst photo


@dataclass(frozen=True)
class ModelCaption:
    """One model's caption of a photo; `cider` is x100, None where it was not scored."""

    model: str
    text: str
    cider: float | None
    errors: Errors


@dataclass(frozen=True)
class Photo:
    """A photo of a gallery: `uri` holds the picture, or `fault` says why there is none."""

    image_id: str
    uri: str
    fault: str
    references: Sequence[str]
    captions: Sequence[ModelCaption]


@dataclass(frozen=True)
class Extremes:
    """Photos that one model captions best and worst by CIDEr-D."""

    model: str
    best: Sequence[Photo]
    worst: Sequence[Photo]


@dataclass(frozen=True)
class Gallery:
    """What is shown of the photos of comparable scores.

    Attributes:
        first: the first photos of the split, chosen by nobody.
        extremes: of each model.
        errors: of each model, and of people last; [] without references.
    """

    first: Sequence[Photo]
    extremes: Sequence[Extremes]
    errors: Sequence[ErrorCounts]


def build_gallery(
    entries: Sequence[Entry], records: Mapping[str, CaptionRecord], photos: int, extremes: int
) -> Gallery:
    """The gallery of comparable scores; without records only captions, and no error classes.

    Args:
        records: by image id.
        photos: how many of the split's first ones to show.
        extremes: how many best and worst ones to show of each model.
    """
    texts = _references(records)
    known = {image_id: together(said) for image_id, said in texts.items()}
    errors = {entry.name: find_errors(entry.sheet.captions, known) for entry in entries}
    shelf = _Shelf(entries, records, errors)
    ids = list(entries[0].sheet.captions)[:photos]
    counts = [error_counts(name, found) for name, found in errors.items() if found]
    people = human_errors(texts)
    if people:
        counts.append(error_counts(PEOPLE, people))
    return Gallery(
        [shelf.photo(image_id) for image_id in ids],
        [found for entry in entries if (found := _extremes(entry, shelf, extremes))],
        counts,
    )


class _Shelf:
    """Photos, each made once."""

    def __init__(
        self,
        entries: Sequence[Entry],
        records: Mapping[str, CaptionRecord],
        errors: Mapping[str, Mapping[str, Errors]],
    ) -> None:
        self.entries, self.records, self.errors = entries, records, errors
        self.made: dict[str, Photo] = {}
        self.ciders = {entry.name: ciders(entry) for entry in entries}

    def photo(self, image_id: str) -> Photo:
        """The photo with everybody's words on it."""
        if image_id not in self.made:
            record = self.records.get(image_id)
            uri, fault = _picture(record)
            captions = [self._caption(entry, image_id) for entry in self.entries]
            references = record.captions if record else ()
            self.made[image_id] = Photo(image_id, uri, fault, references, captions)
        return self.made[image_id]

    def _caption(self, entry: Entry, image_id: str) -> ModelCaption:
        """What one model says."""
        return ModelCaption(
            entry.name,
            entry.sheet.captions[image_id],
            self.ciders[entry.name].get(image_id),
            self.errors[entry.name].get(image_id, {}),
        )


def ciders(entry: Entry) -> dict[str, float]:
    """Image id -> CIDEr-D x100; {} where it was not scored."""
    statistic = entry.sheet.statistics.get("CIDEr")
    if statistic is None:
        return {}
    values = (100 * statistic.per_image).tolist()
    return dict(zip(entry.sheet.captions, values, strict=True))


def _extremes(entry: Entry, shelf: _Shelf, count: int) -> Extremes | None:
    """The model's best and worst photos; equal ones in the order of the split.

    Of many models only its own captions stand below them.
    """
    values = ciders(entry)
    if not values or not count:
        return None
    count = min(count, len(values) // 2)
    order = sorted(values, key=lambda image_id: -values[image_id])
    worst = sorted(values, key=lambda image_id: values[image_id])[:count]
    alone = len(shelf.entries) > MOST_TOGETHER
    best, lowest = (
        [_only(shelf.photo(one), entry.name) if alone else shelf.photo(one) for one in part]
        for part in (order[:count], worst)
    )
    return Extremes(entry.name, best, lowest)


def _only(photo: Photo, model: str) -> Photo:
    """The photo with the caption of one model."""
    captions = [caption for caption in photo.captions if caption.model == model]
    return replace(photo, captions=captions)


def _picture(record: CaptionRecord | None) -> tuple[str, str]:
    """The picture, and why there is none."""
    if record is None:
        return "", "the dataset is not here"
    try:
        return thumbnail(record), ""
    except (InputError, OSError) as error:
        return "", str(error)


def _references(records: Mapping[str, CaptionRecord]) -> dict:
    """Image id -> what each of its references says."""
    said = iter(said_by(text for record in records.values() for text in record.captions))
    return {image_id: [next(said) for _ in one.captions] for image_id, one in records.items()}
