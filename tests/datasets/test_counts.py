"""Counts beside the published ones."""

from pathlib import Path

from prefixcap.datasets import READERS, read
from prefixcap.datasets.counts import PUBLISHED, compare
from prefixcap.datasets.records import CaptionRecord


def records(
    count: int, captions: int, split: str, domain: str | None = None
) -> list[CaptionRecord]:
    texts = ("a",) * captions
    return [CaptionRecord(str(n), Path(f"{n}.jpg"), texts, split, domain) for n in range(count)]


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


def test_nearest_edition_is_compared_with():
    [count] = compare("coco", records(4_999, 1, "val"))
    assert count.published is not None and count.published.images == 5_000
    assert (count.agrees, count.exceeds) == (False, False)
    [count] = compare("karpathy", records(1_015, 5, "val"))
    assert count.published is not None and count.published.images == 1_014
    assert (count.agrees, count.exceeds) == (False, True)


def test_exact_counts_agree_and_domains_are_counted_apart():
    found = compare(
        "nocaps", [*records(648, 10, "val", "in-domain"), *records(914, 10, "val", "out-domain")]
    )
    assert [(one.split, one.images, one.agrees) for one in found] == [
        ("val", 1_562, False),
        ("val in-domain", 648, True),
        ("val out-domain", 914, True),
    ]


def test_own_data_has_nothing_to_compare_with():
    [count] = compare("csv", records(3, 2, "train"))
    assert (count.published, count.agrees, count.exceeds) == (None, True, False)
    assert (count.images, count.captions) == (3, 6)


def test_real_flickr8k_is_as_published(data_dir: Path):
    counts = compare("flickr8k", read("flickr8k", data_dir / "flickr8k"))
    assert [count.split for count in counts] == ["train", "dev", "unlisted"]
    assert all(count.agrees and count.published is not None for count in counts)


def test_real_captions_of_val2017_are_as_published(data_dir: Path):
    records = read("coco", data_dir / "coco/captions_val2017.json", images=data_dir)
    [count] = compare("coco", records)
    assert count.agrees and count.images == 5_000
