"""Photos by name and by row: order, and what is refused."""

from pathlib import Path

import pytest

from prefixcap.batches import read_source
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
