"""CIDEr-D of ever new candidates against fixed references: the reward of self-critical training.

Everything about the references is computed once. N-grams are looked up by a 64-bit key, a hash of
their words: in the 4 million n-grams of COCO's training captions, two share a key with a
probability of 10^-6 (birthday bound), and a collision would change one weight.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import numpy as np

from prefixcap.errors import InputError
from prefixcap.metrics import cider
from prefixcap.metrics.arrays import read_arrays, write_arrays
from prefixcap.metrics.ngrams import MAX_ORDER, distinct, find, groups

FORMAT = "prefixcap document frequencies 1"
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, from the golden ratio (Knuth): spreads small numbers


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many documents (images with their references) each n-gram occurs.

    Attributes:
        documents: number of documents.
        keys: per order, the n-grams' keys, uint64, ascending.
        counts: per order, documents with that n-gram, int32.
    """

    documents: int
    keys: tuple[np.ndarray, ...]
    counts: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, references: Iterable[Sequence[str]]) -> "DocumentFrequencies":
        """Frequencies in the tokenized references of each image."""
        documents = list(references)
        image = np.repeat(np.arange(len(documents)), [len(group) for group in documents])
        keys, counts = [], []
        for order in _occurrences(list(chain.from_iterable(documents))):
            once, _ = groups(_paired(order.key, image[order.row]))  # per document
            first, count = groups(order.key[once])
            keys.append(order.key[once][first])
            counts.append(count.astype(np.int32))
        return cls(len(documents), tuple(keys), tuple(counts))

    def at_least(self, documents: int) -> "DocumentFrequencies":
        """The n-grams of so many documents or more; the rest weigh as those of one document do."""
        kept = [column >= documents for column in self.counts]
        return DocumentFrequencies(
            self.documents,
            tuple(keys[rows] for keys, rows in zip(self.keys, kept, strict=True)),
            tuple(counts[rows] for counts, rows in zip(self.counts, kept, strict=True)),
        )

    def digest(self) -> str:
        """Hash of what is counted, 16 hexadecimal digits: CIDEr-D of one digest can be compared."""
        digest = blake2b(str(self.documents).encode(), digest_size=8)
        for column in (*self.keys, *self.counts):
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the frequencies to one safetensors file, atomically."""
        arrays = {f"keys.{n}": column for n, column in enumerate(self.keys, 1)}
        arrays |= {f"counts.{n}": column for n, column in enumerate(self.counts, 1)}
        metadata = {"format": FORMAT, "documents": str(self.documents)}
        write_arrays(Path(path), arrays, metadata)

    @classmethod
    def load(cls, path: Path) -> "DocumentFrequencies":
        """Frequencies saved by `save`.

        Raises:
            InputError: the file is missing, damaged or another kind of file.
        """
        arrays, metadata = read_arrays(Path(path))
        if metadata.get("format") != FORMAT:
            raise InputError(f'{path}: expected a file with format "{FORMAT}"; write it with save')
        orders = range(1, MAX_ORDER + 1)
        return cls(
            int(metadata["documents"]),
            tuple(arrays[f"keys.{order}"] for order in orders),
            tuple(arrays[f"counts.{order}"] for order in orders),
        )


@dataclass(frozen=True)
class _Occurrences:
    """N-grams of one order in some captions: caption row, key, and how often it occurs there."""

    row: np.ndarray
    key: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class _Order:
    """What is known of the n-grams of one order.

    Attributes:
        keys: keys of all known n-grams, ascending; the place of a key is the n-gram's number.
        idf: weight of each known n-gram.
        start: first entry of each image in the three columns below, and their length at the end.
        reference: row of the reference of each entry.
        ngram: number of the n-gram of each entry.
        weight: its weight in the reference's vector.
        norm: length of each reference's vector.
    """

    keys: np.ndarray
    idf: np.ndarray
    start: np.ndarray
    reference: np.ndarray
    ngram: np.ndarray
    weight: np.ndarray
    norm: np.ndarray


class CiderReferences:
    """References of many images, ready to score candidates with CIDEr-D."""

    def __init__(
        self,
        references: Mapping[Hashable, Sequence[str]],
        frequencies: DocumentFrequencies | None = None,
    ) -> None:
        """Prepare tokenized references; frequencies are those of the references unless given."""
        texts = list(references.values())
        frequencies = frequencies or DocumentFrequencies.of(texts)
        self._row = {key: row for row, key in enumerate(references)}
        self._first = np.cumsum([0, *(len(group) for group in texts)])
        self._unseen = cider.inverse_frequency(np.zeros(1), frequencies.documents)[0]
        captions = list(chain.from_iterable(texts))
        self._bigrams = cider.bigrams(np.array([len(text.split()) for text in captions]))
        self._orders = [
            self._prepared(order, keys, counts, frequencies.documents)
            for order, keys, counts in zip(
                _occurrences(captions), frequencies.keys, frequencies.counts, strict=True
            )
        ]

    def score(self, ids: Sequence[Hashable], candidates: Sequence[str]) -> np.ndarray:
        """CIDEr-D of each tokenized candidate with its image's references, (candidates,) float64.

        An id may come several times, with different candidates.

        Raises:
            KeyError: an id without references.
        """
        image = np.array([self._row[key] for key in ids], np.int64)
        sizes = self._first[image + 1] - self._first[image]
        candidate = np.repeat(np.arange(len(image)), sizes)  # candidate of each pair
        reference = _ranges(self._first[image], sizes)  # reference of each pair
        lengths = cider.bigrams(np.array([len(text.split()) for text in candidates]))
        pair = np.cumsum(sizes) - sizes - self._first[image]  # + reference -> its pair
        total = np.zeros(len(candidate))
        for ours, order in zip(_occurrences(candidates), self._orders, strict=True):
            overlap, norm = self._overlap(ours, order, image, pair, len(candidate))
            norm = norm[candidate] * order.norm[reference]
            total += np.divide(overlap, norm, out=overlap, where=norm > 0)
        total *= cider.length_penalty(lengths[candidate] - self._bigrams[reference])
        return cider.image_means(total, candidate, len(image))

    def _prepared(
        self, order: _Occurrences, keys: np.ndarray, counts: np.ndarray, documents: int
    ) -> _Order:
        """Vectors of all references for one order."""
        known = distinct(np.concatenate([keys, order.key]))
        frequency = np.zeros(len(known), np.int64)
        frequency[np.searchsorted(known, keys)] = counts
        idf = cider.inverse_frequency(frequency, documents)
        by_row = np.argsort(order.row, kind="stable")
        reference, ngram = order.row[by_row], np.searchsorted(known, order.key[by_row])
        weight = order.count[by_row] * idf[ngram]
        norm = cider.norms(reference, weight, self._first[-1])
        start = np.searchsorted(reference, self._first)
        return _Order(known, idf, start, reference, ngram, weight, norm)

    def _overlap(
        self, ours: _Occurrences, order: _Order, image: np.ndarray, pair: np.ndarray, pairs: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Clipped products of each pair, (pairs,), and norms of the candidates, for one order."""
        ngram, there = find(order.keys, ours.key)
        weight = np.full(len(ours.key), self._unseen)
        weight[there] = order.idf[ngram]
        weight *= ours.count
        norm = cider.norms(ours.row, weight, len(image))
        size = len(order.keys)
        keys = ours.row[there] * size + ngram
        ascending = np.argsort(keys)
        sizes = order.start[image + 1] - order.start[image]
        entry = _ranges(order.start[image], sizes)
        owner = np.repeat(np.arange(len(image)), sizes)
        place, found = find(keys[ascending], owner * size + order.ngram[entry])
        theirs = order.weight[entry[found]]
        matched = np.minimum(weight[there][ascending][place], theirs) * theirs
        row = pair[owner[found]] + order.reference[entry[found]]
        return cider.row_sums(row, matched, pairs), norm


def _ranges(start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Numbers `start[i]` to `start[i] + size[i] - 1` for each i, one after the other."""
    ends = np.cumsum(size)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(start - ends + size, size)


@lru_cache(maxsize=1 << 17)
def _word_key(word: str) -> int:
    """64-bit key of a word, the same on every machine."""
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


def _paired(key: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Key of an n-gram in one caption or document."""
    return key + row.astype(np.uint64) * _MIX


def _occurrences(captions: Sequence[str]) -> list[_Occurrences]:
    """N-grams of order 1 to `MAX_ORDER` in tokenized captions, each once per caption."""
    words = [text.split() for text in captions]
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    key = np.fromiter(map(_word_key, chain.from_iterable(words)), np.uint64, int(lengths.sum()))
    row = np.repeat(np.arange(len(words)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(key))  # words to caption's end
    gram, orders = key, []
    for order in range(1, MAX_ORDER + 1):
        if order > 1:  # an n-gram's key: that of its first n-1 words, mixed, plus its last word's
            gram = gram[:-1] * _MIX + key[order - 1 :]
        whole = left[: len(gram)] >= order
        rows, inside = row[: len(gram)][whole], gram[whole]
        first, count = groups(_paired(inside, rows))
        orders.append(_Occurrences(rows[first], inside[first], count))
    return orders
