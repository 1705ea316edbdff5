"""BLEU-1 to BLEU-4 as the COCO caption evaluation code computes them (Papineni et al. 2002)."""

from dataclasses import dataclass

import numpy as np

from prefixcap.metrics.ngrams import MAX_ORDER, NgramTable, find

# The COCO code's guards against empty counts; kept so that the last digits agree.
TINY = 1e-15  # added to matches, so that no match gives a very small score instead of an error
SMALL = 1e-9  # added to divisors


@dataclass(frozen=True)
class BleuCounts:
    """What BLEU needs to know of each image; rows may be summed or resampled.

    Attributes:
        candidate_length: words of the candidate, (images,) int64.
        reference_length: words of the reference closest in length, the shorter of two, (images,).
        correct: candidate n-grams found in the references, clipped, (images, 4) int64.
        guess: candidate n-grams, (images, 4) int64.
    """

    candidate_length: np.ndarray
    reference_length: np.ndarray
    correct: np.ndarray
    guess: np.ndarray


def count(table: NgramTable) -> BleuCounts:
    """BLEU's counts of each image."""
    images, image = table.images, table.image
    correct = np.zeros((images, MAX_ORDER), np.int64)
    for order, counts in enumerate(table.orders):
        ours, theirs = counts.of(0, images), counts.of(images, images + len(image))
        keys, inverse = np.unique(
            image[theirs.caption - images] * counts.size + theirs.ngram, return_inverse=True
        )
        most = np.zeros(len(keys), np.int64)
        np.maximum.at(most, inverse, theirs.count)  # clip at the reference that has it most often
        place, there = find(keys, ours.caption * counts.size + ours.ngram)
        matched = np.minimum(most[place], ours.count[there])
        correct[:, order] = np.bincount(ours.caption[there], matched, images)
    length = table.lengths[:images]
    guess = np.maximum(length[:, None] - np.arange(MAX_ORDER), 0)
    return BleuCounts(length, _closest(length, table.lengths[images:], image), correct, guess)


def _closest(length: np.ndarray, reference: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Length of each image's reference closest to the candidate's, the shorter one of two."""
    order = np.lexsort((reference, np.abs(reference - length[image]), image))
    _, first = np.unique(image[order], return_index=True)
    return reference[order][first]


def per_image(counts: BleuCounts) -> np.ndarray:
    """BLEU-1..4 of each image alone, 0 to 1, (images, 4) float64."""
    return _bleu(counts.candidate_length, counts.reference_length, counts.correct, counts.guess)


def corpus(counts: BleuCounts) -> np.ndarray:
    """BLEU-1..4 of all images together, 0 to 1 (tables show x100), (4,) float64.

    This is a ratio of sums, not the mean of the per-image values.
    """
    sums = (
        np.atleast_1d(counts.candidate_length.sum()),
        np.atleast_1d(counts.reference_length.sum()),
        counts.correct.sum(0, keepdims=True),
        counts.guess.sum(0, keepdims=True),
    )
    return _bleu(*sums)[0]


def _bleu(
    candidate: np.ndarray, reference: np.ndarray, correct: np.ndarray, guess: np.ndarray
) -> np.ndarray:
    """Geometric mean of the n-gram precisions times the brevity penalty, (rows, 4)."""
    precision = np.cumprod((correct + TINY) / (guess + SMALL), axis=1)
    bleu = precision ** (1.0 / np.arange(1, MAX_ORDER + 1))
    ratio = (candidate + TINY) / (reference + SMALL)
    # an empty candidate's ratio is near 0: exp(1 - 1/ratio) is then 0, without an overflow
    return bleu * np.exp(np.minimum(1 - 1 / ratio, 0))[:, None]
