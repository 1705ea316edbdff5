"""CIDEr-D per image as the COCO caption evaluation code computes it (Vedantam et al. 2015)."""

from collections.abc import Sequence

import numpy as np

from prefixcap.metrics.ngrams import MAX_ORDER, NgramCounts, count_ngrams, find, token_ids

SIGMA = 6.0  # width in words of the penalty on a length unlike the reference's
SCALE = 10.0  # CIDEr-D's factor; papers' tables multiply by another 100 / 10


def per_image(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> np.ndarray:
    """CIDEr-D of each image, 0 to 10 (tables show x100), (images,) float64.

    Document frequencies are those of the references given, one document per image; the value of
    an image therefore depends on which others are scored with it, and one image alone scores 0.
    """
    images = len(candidates)
    image = np.repeat(np.arange(images), [len(group) for group in references])
    ids, lengths, _ = token_ids([*candidates, *(words for group in references for words in group)])
    total = np.zeros(len(image))
    for counts in count_ngrams(ids, lengths):
        total += _similarity(counts, images, image)
    bigrams = np.maximum(lengths - 1, 0)  # the COCO code counts bigrams as a caption's length
    apart = bigrams[:images][image] - bigrams[images:]
    total *= np.exp(-(apart**2) / (2 * SIGMA**2)) * SCALE / MAX_ORDER
    return np.bincount(image, total, images) / np.bincount(image, minlength=images)


def _similarity(counts: NgramCounts, images: int, image: np.ndarray) -> np.ndarray:
    """Clipped cosine of each reference with its image's candidate for one order, (references,)."""
    ours, theirs = counts.of(0, images), counts.of(images, images + len(image))
    reference = theirs.caption - images
    keys = image[reference] * counts.size + theirs.ngram
    frequency = np.bincount(np.unique(keys) % max(counts.size, 1), minlength=counts.size)
    idf = np.log(float(images)) - np.log(np.maximum(frequency, 1))
    ours_weight, theirs_weight = ours.count * idf[ours.ngram], theirs.count * idf[theirs.ngram]
    place, there = find(ours.caption * counts.size + ours.ngram, keys)
    weight = theirs_weight[there]
    overlap = np.bincount(
        reference[there], np.minimum(ours_weight[place], weight) * weight, len(image)
    )
    norm = _norms(ours.caption, ours_weight, images)[image] * _norms(
        reference, theirs_weight, len(image)
    )
    return np.divide(overlap, norm, out=overlap, where=norm > 0)


def _norms(row: np.ndarray, weight: np.ndarray, rows: int) -> np.ndarray:
    """Euclidean norm of each caption's vector, (rows,)."""
    return np.sqrt(np.bincount(row, weight**2, rows))
