"""Photos by name and by row: order, and what is refused."""

from pathlib import Path

import pytest

from prefixcap.batches import read_source
from prefixcap.chosen_records import place_of
from prefixcap.config import parse
from prefixcap.errors import InputError
from prefixcap.recipe import SourceConfig
from tests.tiny_run import write_photos


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_photos(tmp_path_factory.mktemp("world") / "data")


def ids(data: Path, lines: list[str], **more) -> list[str]:
    """Ids of the photos that the lines of a file name."""
    (data / "names.txt").write_text("\n".join(lines) + "\n")
    source = SourceConfig(format="flickr8k", path=str(data), names=str(data / "names.txt"), **more)
    return [record.image_id for record in read_source(source, "0")]


def test_the_file_s_order_is_that_of_the_records_and_rows_count_in_it(data):
    names = ["0020_red.jpg", "0003_grey.jpg", "0001_green.jpg"]
    assert ids(data, names) == [f"0-flickr8k/{name}" for name in names]
    assert ids(data, names, rows=(1, 3)) == [f"0-flickr8k/{name}" for name in names[1:]]
    assert ids(data, names, rows=(0, 3), first=1) == ["0-flickr8k/0020_red.jpg"]


def test_shares_leave_no_photo_out_and_have_none_twice(data):
    shares = [(0, 0.3), (0.3, 0.7), (0.7, 1)]
    parts = [
        [record.image_id for record in read_source(source, "0")]
        for source in (
            SourceConfig(format="flickr8k", path=str(data), share=share) for share in shares
        )
    ]
    whole = read_source(SourceConfig(format="flickr8k", path=str(data)), "0")
    assert all(parts)
    assert sorted(name for part in parts for name in part) == sorted(r.image_id for r in whole)


def test_a_photo_s_place_follows_from_its_id_alone():
    """So another release, or another folder of more photos, has it on the same side."""
    assert place_of("beach/1.jpg") == pytest.approx(0.4499, abs=1e-4)
    places = [place_of(f"{number}.jpg") for number in range(4000)]
    assert 0 <= min(places) < 0.01
    assert 0.99 < max(places) < 1
    assert sum(place < 0.1 for place in places) == pytest.approx(400, abs=60)  # 3 deviations
    assert place_of("\udcff.jpg") < 1  # a file name that is no UTF-8


def test_a_share_and_rows_count_within_what_a_file_names(data):
    names = sorted(path.name for path in data.rglob("*.jpg"))[::-2]
    inside = [name for name in names if place_of(name) < 0.6]
    assert 1 < len(inside) < len(names)
    assert ids(data, names, share=(0, 0.6)) == [f"0-flickr8k/{name}" for name in inside]
    assert ids(data, names, share=(0, 0.6), rows=(1, 2)) == [f"0-flickr8k/{inside[1]}"]


def test_a_share_without_photos_is_refused(data):
    with pytest.raises(InputError, match=r"none of its 1 images is in the share \[0.0, 0.0001\]"):
        ids(data, ["0003_grey.jpg"], share=(0, 0.0001))


@pytest.mark.parametrize("key", ["share", "rows"])
def test_a_number_in_place_of_two_is_refused(key):
    with pytest.raises(InputError, match=rf"^x: {key}: expected a list in brackets.*found 0.2"):
        parse(SourceConfig, {"format": "flickr8k", "path": "x", key: 0.2}, "x")


@pytest.mark.parametrize("share", [(0.5, 0.5), (-0.1, 0.5), (0.5, 1.1)])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="the second above the first"):
        SourceConfig(format="flickr8k", path="x", share=share)


@pytest.mark.parametrize(
    ("lines", "rows", "said"),
    [
        (["0003_grey.jpg", "9999_red.jpg"], None, 'such as "9999_red.jpg"'),
        (["0003_grey.jpg", "0003_grey.jpg"], None, '0003_grey.jpg" twice'),
        (["0003_grey.jpg"], (0, 2), "has 1 images, asked for rows"),
    ],
)
def test_what_is_not_there_is_refused(data, lines, rows, said):
    with pytest.raises(InputError, match=said):
        ids(data, lines, rows=rows)


def test_rows_that_are_no_range_are_refused():
    with pytest.raises(ValueError, match="second above the first"):
        SourceConfig(format="flickr8k", path="x", rows=(8, 8))
