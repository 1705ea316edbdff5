"""Counts beside the published ones."""

from pathlib import Path

import pytest

from prefixcap.datasets import READERS, edition, read
from prefixcap.datasets.counts import PUBLISHED, Edition, compare
from prefixcap.datasets.records import CaptionRecord


def records(
    count: int, captions: int, split: str, domain: str | None = None, name: str = "{}.jpg"
) -> list[CaptionRecord]:
    texts = ("a",) * captions
    return [CaptionRecord(str(n), Path(name.format(n)), texts, split, domain) for n in range(count)]


def test_karpathy_splits_add_up_to_the_files_of_2014():
    official, splits = PUBLISHED["coco"], PUBLISHED["coco-karpathy"]
    for count in ("images", "captions"):
        assert getattr(official["train"][0], count) == getattr(splits["train"][0], count)
        moved = sum(getattr(splits[name][0], count) for name in ("restval", "val", "test"))
        assert getattr(official["val"][0], count) == moved


def test_nocaps_domains_add_up_to_its_validation_set():
    val = PUBLISHED["nocaps"]["val"][0]
    domains = [known for name, [known] in PUBLISHED["nocaps"].items() if name.startswith("val ")]
    assert sum(one.images for one in domains) == val.images
    assert sum(one.captions for one in domains) == val.captions == 10 * val.images


def test_published_names_are_readers():
    assert PUBLISHED.keys() <= READERS.keys()


@pytest.mark.parametrize(
    ("name", "year", "images"),
    [
        ("{}.jpg", None, 5_000),  # nothing says the year: the nearest in size
        ("{}.jpg", 2014, 40_504),
        ("COCO_val2014_{:012d}.jpg", None, 40_504),
        ("{:012d}.jpg", None, 5_000),
        ("COCO_val2014_{:012d}.jpg", 2017, 40_504),  # the photos know it better than the file
    ],
)
def test_coco_is_compared_with_the_files_of_its_year(name: str, year: int | None, images: int):
    [count] = compare(Edition("coco", year), records(4_999, 1, "val", name=name))
    assert count.published is not None and count.published.images == images
    assert (count.agrees, count.exceeds) == (False, False)


def test_split_that_the_year_does_not_have_is_compared_with_nothing():
    [count] = compare(Edition("coco"), records(3, 0, "test", name="{:012d}.jpg"))
    assert (count.published, count.agrees) == (None, True)


def test_exact_counts_agree_and_domains_are_counted_apart():
    found = compare(
        Edition("nocaps"),
        [*records(648, 10, "val", "in-domain"), *records(914, 10, "val", "out-domain")],
    )
    assert [(one.split, one.images, one.agrees) for one in found] == [
        ("val", 1_562, False),
        ("val in-domain", 648, True),
        ("val out-domain", 914, True),
    ]


def test_own_data_has_nothing_to_compare_with():
    [count] = compare(Edition("csv"), records(3, 2, "train"))
    assert (count.published, count.agrees, count.exceeds) == (None, True, False)
    assert (count.images, count.captions) == (3, 6)


def test_real_flickr8k_is_as_published(data_dir: Path):
    counts = compare(Edition("flickr8k"), read("flickr8k", data_dir / "flickr8k"))
    assert [count.split for count in counts] == ["train", "dev", "unlisted"]
    assert all(count.agrees and count.published is not None for count in counts)


def test_real_captions_of_val2017_are_as_published(data_dir: Path):
    path = data_dir / "coco/captions_val2017.json"
    [count] = compare(edition("coco", path), read("coco", path, images=data_dir))
    assert count.agrees and count.images == 5_000
