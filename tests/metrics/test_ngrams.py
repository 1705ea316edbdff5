"""N-gram counts against Python's own counting."""

from collections import Counter

import numpy as np

from prefixcap.metrics.ngrams import MAX_ORDER, distinct, find, groups, tabulate
from tests.metrics.coco_code import random_case, word_groups, words


def plain_counts(caption: list[str], order: int) -> Counter:
    """How often each n-gram occurs in one caption."""
    return Counter(tuple(caption[at : at + order]) for at in range(len(caption) - order + 1))


def test_counts_are_those_of_plain_counting():
    candidates, references = random_case(50, seed=1)
    table = tabulate(words(candidates), word_groups(references))
    captions = words([*candidates, *(text for group in references for text in group)])
    assert table.lengths.tolist() == [len(caption) for caption in captions]
    for order in range(1, MAX_ORDER + 1):
        counts = table.orders[order - 1]
        plain = [plain_counts(caption, order) for caption in captions]
        for row, expected in enumerate(plain):
            assert sorted(counts.count[counts.caption == row]) == sorted(expected.values())
        assert counts.size == len({ngram for row in plain for ngram in row})


def test_captions_share_an_id_exactly_where_they_share_the_ngram():
    candidates, references = random_case(20, seed=2)
    table = tabulate(words(candidates), word_groups(references))
    captions = words([*candidates, *(text for group in references for text in group)])
    for order, counts in enumerate(table.orders, 1):
        ids = [set(counts.ngram[counts.caption == row]) for row in range(len(captions))]
        plain = [set(plain_counts(caption, order)) for caption in captions]
        for row in range(1, len(captions)):
            assert len(ids[0] & ids[row]) == len(plain[0] & plain[row])


def test_find_gives_places_of_those_that_are_there():
    place, there = find(np.array([2, 5, 9]), np.array([9, 1, 5, 10]))
    assert place.tolist() == [2, 1]
    assert there.tolist() == [True, False, True, False]


def test_find_in_nothing_finds_nothing():
    place, there = find(np.empty(0, np.int64), np.array([1, 2]))
    assert place.size == 0
    assert not there.any()


def test_distinct_and_groups_are_those_of_numpy():
    keys = np.random.default_rng(0).integers(0, 50, 300).astype(np.uint64)
    expected, counts = np.unique(keys, return_counts=True)
    place, count = groups(keys)
    np.testing.assert_array_equal(distinct(keys), expected)
    np.testing.assert_array_equal(keys[place], expected)
    np.testing.assert_array_equal(count, counts)


def test_nothing_has_no_distinct_keys_and_no_groups():
    nothing = np.empty(0, np.int64)
    assert distinct(nothing).size == 0
    assert [column.size for column in groups(nothing)] == [0, 0]
