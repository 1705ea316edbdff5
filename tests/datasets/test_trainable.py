"""Captions of no word or of a page are refused before training."""

from pathlib import Path

import pytest

from prefixcap.datasets import CaptionRecord, refuse_untrainable
from prefixcap.errors import InputError


def record(*captions: str) -> CaptionRecord:
    return CaptionRecord("7", Path("7.jpg"), captions, "train")


def test_ordinary_captions_pass():
    refuse_untrainable([record("A dog."), record("word " * 81 + "word")], "data")


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([], "data: no images to train on"),
        ([record("A dog."), record()], r"image 7 \(train\) has no captions"),
        ([record("A dog.", "")], "has an empty caption"),
        ([record("word " * 999 + "word")], "a caption of 1,000 words and 4,999 characters"),
        ([record("x" * 3_000)], "1 words and 3,000 characters, which is more than 200 words, 2,2"),
    ],
)
def test_what_cannot_be_learned_is_refused(records: list[CaptionRecord], problem: str):
    with pytest.raises(InputError, match=problem):
        refuse_untrainable(records, "data")
