"""ROUGE-L per image as the COCO caption evaluation code computes it (Lin 2004)."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

BETA = 1.2  # recall counts 1.44 times precision; the COCO code's choice


def per_image(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> np.ndarray:
    """ROUGE-L of each image, 0 to 1 (tables show x100), (images,) float64.

    Best precision and best recall may come from two different references, as in the COCO code.
    A caption without words counts as one empty word there: pass `[""]` for it.
    """
    pairs = zip(candidates, references, strict=True)
    return np.array([_rouge(candidate, group) for candidate, group in pairs], np.float64)


def _rouge(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """F-measure with `BETA` of the longest common subsequences of one image."""
    positions = _positions(candidate)
    common = [_lcs(positions, len(candidate), reference) for reference in references]
    precision = max(common) / len(candidate)
    recall = max(
        length / len(reference) for length, reference in zip(common, references, strict=True)
    )
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _positions(words: Sequence[str]) -> dict[str, int]:
    """For each word, the bits of the positions at which it stands."""
    bits: defaultdict[str, int] = defaultdict(int)
    for place, word in enumerate(words):
        bits[word] |= 1 << place
    return bits


def _lcs(positions: dict[str, int], length: int, other: Sequence[str]) -> int:
    """Length of the longest common subsequence, by Hyyrö's (2004) row of bits per word."""
    row = full = (1 << length) - 1
    for word in other:
        matches = row & positions.get(word, 0)
        row = ((row + matches) | (row - matches)) & full
    return length - row.bit_count()
