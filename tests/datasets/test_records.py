"""Captions as published, and the choice of a split."""

from pathlib import Path

import pytest

from prefixcap.datasets.records import CaptionRecord, clean_caption, select_split
from prefixcap.errors import InputError


@pytest.mark.parametrize(
    ("published", "cleaned"),
    [
        (" A dog. ", "A dog."),
        ("A dog\r\nruns\t fast\n", "A dog runs fast"),
        ("A  DOG , running !", "A DOG , running !"),
        ("\n \t", ""),
        ("caf\u00e9\u00a0au lait", "caf\u00e9\u00a0au lait"),
        ("two\u2028lines", "two\u2028lines"),
    ],
)
def test_only_ascii_white_space_is_changed(published: str, cleaned: str):
    assert clean_caption(published) == cleaned


def test_split_that_is_not_there_names_those_that_are():
    records = [CaptionRecord(s, Path(s), ("a",), s) for s in ("train", "val")]
    assert select_split(records, None, Path("d")) == records
    assert select_split(records, "val", Path("d")) == records[1:]
    with pytest.raises(InputError, match=r'd: no split "dev".*train, val'):
        select_split(records, "dev", Path("d"))
