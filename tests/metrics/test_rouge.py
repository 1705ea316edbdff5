"""ROUGE-L against the COCO code's, and its bit-parallel LCS against the plain recurrence."""

import random

import numpy as np
import pytest

from prefixcap.metrics import rouge
from prefixcap.metrics.score import score
from tests.metrics.coco_code import coco_scores, random_case


def test_random_captions_score_as_in_the_coco_code():
    candidates, references = random_case(200, seed=3)
    found = score(dict(enumerate(candidates)), dict(enumerate(references)), ["rouge"], "none")
    corpus, per_image = coco_scores("rouge", candidates, references)
    assert found.corpus["ROUGE-L"] == pytest.approx(float(corpus), rel=0, abs=1e-12)
    ours = np.array(list(found.per_image["ROUGE-L"].values()))
    assert ours == pytest.approx(per_image, rel=0, abs=1e-12)


def longest_common(first: str, second: str) -> int:
    """Length of the longest common subsequence by the textbook recurrence."""
    table = np.zeros((len(first) + 1, len(second) + 1), int)
    for row, left in enumerate(first, 1):
        for column, right in enumerate(second, 1):
            same = table[row - 1, column - 1] + 1
            longest = max(table[row - 1, column], table[row, column - 1])
            table[row, column] = same if left == right else longest
    return int(table[-1, -1])


def test_precision_times_length_is_the_longest_common_subsequence():
    generator = random.Random(0)
    for _ in range(200):
        size = generator.randint(1, 90)  # more words than a machine word has bits
        first = "".join(generator.choices("abcd", k=size))
        second = "".join(generator.choices("abcd", k=size))  # equal lengths: F is LCS / length
        value = rouge.per_image([list(first)], [[list(second)]])[0]
        assert value == pytest.approx(longest_common(first, second) / size)
