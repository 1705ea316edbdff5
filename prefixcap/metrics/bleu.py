"""BLEU-1 to BLEU-4 as the COCO caption evaluation code computes them (Papineni et al. 2002)."""

import numpy as np

from prefixcap.metrics.ngrams import MAX_ORDER, NgramCounts, NgramTable, find

# The COCO code's guards against empty counts; kept so that the last digits agree.
TINY = 1e-15  # added to matches, so that no match gives a very small score instead of an error
SMALL = 1e-9  # added to divisors


def count(table: NgramTable) -> np.ndarray:
    """What BLEU sums over images, (images, 10) float64.

    Columns: words of the candidate; words of the reference closest to it in length, the shorter of
    two; candidate n-grams found in the references, clipped, of order 1 to 4; candidate n-grams.
    """
    images, image = table.images, table.image
    length = table.lengths[:images]
    columns = [length, _closest(length, table.lengths[images:], image)]
    columns += [_correct(counts, images, image) for counts in table.orders]
    columns += [np.maximum(length - order, 0) for order in range(MAX_ORDER)]
    return np.stack(columns, axis=1).astype(np.float64)


def from_counts(counts: np.ndarray) -> np.ndarray:
    """BLEU-1..4, 0 to 1 (tables show x100), (..., 4) float64, from counts or their sums, (..., 10).

    The value of sums is a ratio of sums: it is not the mean of the images' values.
    """
    candidate, reference = counts[..., 0], counts[..., 1]
    correct, guess = counts[..., 2 : 2 + MAX_ORDER], counts[..., 2 + MAX_ORDER :]
    precision = np.cumprod((correct + TINY) / (guess + SMALL), axis=-1)
    bleu = precision ** (1.0 / np.arange(1, MAX_ORDER + 1))
    ratio = (candidate + TINY) / (reference + SMALL)
    # brevity penalty; an empty candidate's ratio is near 0, and exp(1 - 1 / ratio) is then 0
    return bleu * np.exp(np.minimum(1 - 1 / ratio, 0))[..., None]


def _correct(counts: NgramCounts, images: int, image: np.ndarray) -> np.ndarray:
    """Candidate n-grams of one order that the references have, clipped, (images,)."""
    ours, theirs = counts.of(0, images), counts.of(images, images + len(image))
    keys, inverse = np.unique(
        image[theirs.caption - images] * counts.size + theirs.ngram, return_inverse=True
    )
    most = np.zeros(len(keys), np.int64)
    np.maximum.at(most, inverse, theirs.count)  # clip at the reference that has it most often
    place, there = find(keys, ours.caption * counts.size + ours.ngram)
    matched = np.minimum(most[place], ours.count[there])
    return np.bincount(ours.caption[there], matched, images)


def _closest(length: np.ndarray, reference: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Length of each image's reference closest to the candidate's, the shorter one of two."""
    order = np.lexsort((reference, np.abs(reference - length[image]), image))
    _, first = np.unique(image[order], return_index=True)
    return reference[order][first]
