"""N-grams of many captions as numpy columns: what BLEU and CIDEr-D both count."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

MAX_ORDER = 4  # BLEU-4 (Papineni 2002) and CIDEr (Vedantam 2015) both stop at four words


@dataclass(frozen=True)
class NgramCounts:
    """How often each n-gram of one order occurs in each caption, as three columns of one length.

    Attributes:
        caption: row of the caption, int64, ascending.
        ngram: id of the n-gram, int64, 0 to `size - 1`, ascending within a caption.
        count: occurrences in that caption, int64, at least 1.
        size: number of distinct n-grams.
    """

    caption: np.ndarray
    ngram: np.ndarray
    count: np.ndarray
    size: int

    def of(self, first: int, stop: int) -> "NgramCounts":
        """The same columns for captions `first` to `stop - 1` only; rows keep their numbers."""
        low, high = np.searchsorted(self.caption, (first, stop))
        cut = slice(low, high)
        return NgramCounts(self.caption[cut], self.ngram[cut], self.count[cut], self.size)


@dataclass(frozen=True)
class NgramTable:
    """N-grams of the candidate and the references of each image, of order 1 to `MAX_ORDER`.

    Captions are numbered: the candidates first, one per image, then the references image by image.

    Attributes:
        images: number of images, which is that of candidates.
        image: image of each reference, (references,) int64, ascending.
        lengths: words of each caption, (images + references,) int64.
        orders: n-gram counts of all captions, one entry per order.
    """

    images: int
    image: np.ndarray
    lengths: np.ndarray
    orders: list[NgramCounts]


def tabulate(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> NgramTable:
    """Table of the n-grams in the words of one candidate and some references per image."""
    image = np.repeat(np.arange(len(candidates)), [len(group) for group in references])
    ids, lengths = _word_ids([*candidates, *chain.from_iterable(references)])
    return NgramTable(len(candidates), image, lengths, _count(ids, lengths))


def distinct(keys: np.ndarray) -> np.ndarray:
    """The different keys, ascending.

    `np.unique` without options hashes integers since numpy 2.3: six times slower than this here.
    """
    ordered = np.sort(keys)
    return ordered[_starts(ordered)]


def groups(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A place of each different key, by ascending keys, and how often each occurs."""
    order = np.argsort(keys)
    first = _starts(keys[order])
    return order[first], np.diff(first, append=len(keys))


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Places of an ascending array at which another value begins."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)])


def find(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the ascending `keys` of those `wanted` that are there, and which those are."""
    if not len(keys):
        return np.empty(0, np.int64), np.zeros(len(wanted), bool)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    there = keys[place] == wanted
    return place[there], there


def _word_ids(captions: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all words in order, (words,), and words per caption, (captions,), both int64."""
    known: defaultdict[str, int] = defaultdict()
    known.default_factory = known.__len__
    lengths = np.fromiter(map(len, captions), np.int64, len(captions))
    ids = map(known.__getitem__, chain.from_iterable(captions))
    return np.fromiter(ids, np.int64, int(lengths.sum())), lengths


def _count(ids: np.ndarray, lengths: np.ndarray) -> list[NgramCounts]:
    """N-gram counts of order 1 to `MAX_ORDER`, from the ids of all words and words per caption."""
    caption = np.repeat(np.arange(len(lengths)), lengths)
    words = int(ids.max(initial=-1)) + 1
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(ids))  # words to caption's end
    gram, counts = ids, [_counted(caption, ids, words)]
    for order in range(2, MAX_ORDER + 1):
        whole = np.flatnonzero(left >= order)
        # an n-gram is its first n-1 words and its last one; ranks keep the product within int64
        pair = gram[whole] * words + ids[whole + order - 1]
        pairs, rank = np.unique(pair, return_inverse=True)
        counts.append(_counted(caption[whole], rank, len(pairs)))
        gram = np.zeros(len(ids), np.int64)
        gram[whole] = rank
    return counts


def _counted(caption: np.ndarray, gram: np.ndarray, size: int) -> NgramCounts:
    """Columns of one order from the caption row and the n-gram id of every occurrence."""
    pairs, count = np.unique(caption * max(size, 1) + gram, return_counts=True)
    rows, ngram = np.divmod(pairs, max(size, 1))
    return NgramCounts(rows, ngram, count, size)
