"""CIDEr-D per image as the COCO caption evaluation code computes it (Vedantam et al. 2015)."""

import numpy as np

from prefixcap.metrics.ngrams import MAX_ORDER, NgramCounts, NgramTable, distinct, find

SIGMA = 6.0  # words; width of the penalty on a length unlike the reference's
SCALE = 10.0  # CIDEr-D's factor; tables show the result x100


def per_image(table: NgramTable) -> np.ndarray:
    """CIDEr-D of each image, 0 to 10 (tables show x100), (images,) float64.

    Document frequencies are those of the references given, one document per image; the value of
    an image therefore depends on which others are scored with it, and one image alone scores 0.
    """
    images, image = table.images, table.image
    total = sum(_similarity(counts, images, image) for counts in table.orders)
    length = bigrams(table.lengths)
    total *= length_penalty(length[:images][image] - length[images:])
    return image_means(total, image, images)


def inverse_frequency(frequency: np.ndarray, documents: int) -> np.ndarray:
    """Weight of n-grams that occur in `frequency` of the documents; an unseen one counts as 1."""
    return np.log(float(documents)) - np.log(np.maximum(frequency, 1))


def bigrams(lengths: np.ndarray) -> np.ndarray:
    """Bigrams of captions with so many words: what the COCO code takes for a caption's length."""
    return np.maximum(lengths - 1, 0)


def length_penalty(difference: np.ndarray) -> np.ndarray:
    """Factor on the similarity of captions whose lengths differ by so much, 0 to 1."""
    return np.exp(-(difference**2) / (2 * SIGMA**2))


def row_sums(row: np.ndarray, value: np.ndarray, rows: int) -> np.ndarray:
    """Sum of the values of each row, (rows,) float64."""
    return np.bincount(row, value, rows).astype(np.float64, copy=False)  # int where all is empty


def norms(row: np.ndarray, weight: np.ndarray, rows: int) -> np.ndarray:
    """Euclidean norm of each caption's vector, (rows,), from the row and weight of each entry."""
    return np.sqrt(row_sums(row, weight**2, rows))


def image_means(total: np.ndarray, image: np.ndarray, images: int) -> np.ndarray:
    """CIDEr-D per image, from the summed similarities of the orders with each reference."""
    summed = row_sums(image, total, images) / np.bincount(image, minlength=images)
    return summed * SCALE / MAX_ORDER


def _similarity(counts: NgramCounts, images: int, image: np.ndarray) -> np.ndarray:
    """Clipped cosine of each reference with its image's candidate for one order, (references,)."""
    ours, theirs = counts.of(0, images), counts.of(images, images + len(image))
    reference = theirs.caption - images
    keys = image[reference] * counts.size + theirs.ngram
    frequency = np.bincount(distinct(keys) % max(counts.size, 1), minlength=counts.size)
    idf = inverse_frequency(frequency, images)
    ours_weight, theirs_weight = ours.count * idf[ours.ngram], theirs.count * idf[theirs.ngram]
    place, there = find(ours.caption * counts.size + ours.ngram, keys)
    weight = theirs_weight[there]
    matched = np.minimum(ours_weight[place], weight) * weight
    overlap = row_sums(reference[there], matched, len(image))
    norm = norms(ours.caption, ours_weight, images)[image]
    norm = norm * norms(reference, theirs_weight, len(image))
    return np.divide(overlap, norm, out=overlap, where=norm > 0)
