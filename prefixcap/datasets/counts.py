"""Published sizes of every split, and how what was read compares with them."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from prefixcap.datasets.records import CaptionRecord


@dataclass(frozen=True)
class Published:
    """Images and captions of one split, and who says so; `year` where there are several."""

    images: int
    captions: int
    source: str
    year: int | None = None


@dataclass(frozen=True)
class SplitCount:
    """What was read of one split (or of one domain of it) beside what is published.

    `published` is None where nothing is: own data, or a split that the dataset does not have.
    """

    split: str
    images: int
    captions: int
    published: Published | None

    @property
    def agrees(self) -> bool:
        """True for equal counts, and where there is nothing to compare with."""
        known = self.published
        return known is None or (known.images, known.captions) == (self.images, self.captions)

    @property
    def exceeds(self) -> bool:
        """True for more images or captions than were ever published."""
        known = self.published
        return known is not None and (self.images > known.images or self.captions > known.captions)


@dataclass(frozen=True)
class Edition:
    """Which published sizes a dataset is compared with.

    Attributes:
        name: a key of `PUBLISHED`; any other name has nothing to compare with.
        year: COCO's, as the annotation files' names say; None where they do not.
    """

    name: str
    year: int | None = None


_ORDER = ("train", "restval", "val", "dev", "test")

# Counted in the official annotation files, captions_{train,val}{2014,2017}.json.
_COCO14 = "Chen et al. 2015, files of 2014"
_COCO17 = "COCO 2017 files"
_KARPATHY = "Karpathy and Fei-Fei 2015"
_FLICKR8K = "Hodosh et al. 2013"
_NOCAPS = "nocaps.org/download; captions: Agrawal et al. 2019, ten an image"
_VIZWIZ = "vizwiz.org, image captioning"
_CONCEPTUAL = "Sharma et al. 2018, TSV files"

# A split with several editions is compared with that of its year; where no name says the year, with
# the nearest in size.
PUBLISHED: dict[str, dict[str, tuple[Published, ...]]] = {
    "coco": {
        "train": (
            Published(82_783, 414_113, _COCO14, 2014),
            Published(118_287, 591_753, _COCO17, 2017),
        ),
        "val": (
            Published(40_504, 202_654, _COCO14, 2014),
            Published(5_000, 25_014, _COCO17, 2017),
        ),
        "test": (Published(40_775, 0, _COCO14, 2014),),
    },
    "coco-karpathy": {
        "train": (Published(82_783, 414_113, _KARPATHY),),
        "restval": (Published(30_504, 152_634, _KARPATHY),),
        "val": (Published(5_000, 25_010, _KARPATHY),),
        "test": (Published(5_000, 25_010, _KARPATHY),),
    },
    "nocaps": {
        "val": (Published(4_500, 45_000, _NOCAPS),),
        "val in-domain": (Published(648, 6_480, _NOCAPS),),
        "val near-domain": (Published(2_938, 29_380, _NOCAPS),),
        "val out-domain": (Published(914, 9_140, _NOCAPS),),
        "test": (Published(10_600, 0, _NOCAPS),),
    },
    "conceptual": {
        "train": (Published(3_318_333, 3_318_333, _CONCEPTUAL),),
        "val": (Published(15_840, 15_840, _CONCEPTUAL),),
    },
    "vizwiz": {
        "train": (Published(23_431, 117_155, _VIZWIZ),),
        "val": (Published(7_750, 38_750, _VIZWIZ),),
        "test": (Published(8_000, 0, _VIZWIZ),),
    },
    "flickr8k": {
        "train": (Published(6_000, 30_000, _FLICKR8K),),
        "dev": (Published(1_000, 5_000, _FLICKR8K),),
        "test": (Published(1_000, 5_000, _FLICKR8K),),
        "unlisted": (Published(91, 455, _FLICKR8K),),
    },
    "flickr8k-karpathy": {
        "train": (Published(6_000, 30_000, _KARPATHY),),
        "val": (Published(1_000, 5_000, _KARPATHY),),
        "test": (Published(1_000, 5_000, _KARPATHY),),
    },
    "flickr30k": {
        "unlisted": (Published(31_783, 158_915, "Young et al. 2014"),),
        "train": (Published(29_000, 145_000, _KARPATHY),),
        "val": (Published(1_014, 5_070, _KARPATHY),),
        "test": (Published(1_000, 5_000, _KARPATHY),),
    },
}

_PHOTO_YEARS = {
    2014: re.compile(r"COCO_[a-z]+2014_\d{12}\.jpg"),
    2017: re.compile(r"\d{12}\.jpg"),
}


def compare(edition: Edition, records: Sequence[CaptionRecord]) -> list[SplitCount]:
    """Counts of each split, and of each domain in it, beside the published ones of `edition`."""
    images: Counter[str] = Counter()
    captions: Counter[str] = Counter()
    photos: defaultdict[str, list[str]] = defaultdict(list)
    for record in records:
        for group in _groups(record):
            images[group] += 1
            captions[group] += len(record.captions)
            photos[group].append(record.path.name)
    published = PUBLISHED.get(edition.name, {})
    counts = []
    for group in sorted(images, key=_place_in_order):
        known = published.get(group, ())
        if any(one.year for one in known):
            year = _photo_year(photos[group]) or edition.year
            known = tuple(one for one in known if year in (None, one.year))
        counts.append(
            SplitCount(group, images[group], captions[group], _nearest(known, images[group]))
        )
    return counts


def _photo_year(names: Sequence[str]) -> int | None:
    """Year whose names COCO's photos all have; None for names of both years, or of neither."""
    for year, form in _PHOTO_YEARS.items():
        if all(form.fullmatch(name) for name in names):
            return year
    return None


def _place_in_order(group: str) -> tuple[int, str]:
    """Training splits first, other names last; domains after their split."""
    split = group.split()[0]
    return (_ORDER.index(split) if split in _ORDER else len(_ORDER), group)


def _groups(record: CaptionRecord) -> list[str]:
    groups = [record.split]
    return groups if record.domain is None else [*groups, f"{record.split} {record.domain}"]


def _nearest(editions: Sequence[Published], images: int) -> Published | None:
    return min(editions, key=lambda edition: abs(edition.images - images), default=None)
