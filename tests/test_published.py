"""Rows of the paper: found by dataset and split, in numbers that tables print."""

from prefixcap.published import ROWS, published_rows

NAMES = {"BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE"}


def test_only_the_paper_s_own_splits_have_rows():
    assert published_rows("coco-karpathy", "test")["paper, transformer"]["CIDEr"] == 113.08
    assert published_rows("coco-karpathy", "val") == {}
    assert published_rows("flickr8k", None) == {}


def test_names_are_those_of_scores_and_values_x100():
    for rows in ROWS.values():
        for row in rows.values():
            assert set(row) <= NAMES
            assert all(5 < value < 150 for value in row.values())
