"""How varied captions are, which no reference-based score sees."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DISTINCT_ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Diversity:
    """Variety of a set of captions.

    Attributes:
        distinct: per order n, different n-grams over all n-grams, 0 to 1 (distinct-n, Li et al.
            2016). It falls as captions are added: compare sets of one size only.
        vocabulary: different words.
        length: mean words per caption.
        different: share of captions that no other image has, 0 to 1.
        novel: share of captions that are no training caption, 0 to 1; None without those.
    """

    distinct: dict[int, float]
    vocabulary: int
    length: float
    different: float
    novel: float | None


def diversity(captions: Sequence[str], training: Iterable[str] | None = None) -> Diversity:
    """Variety of tokenized captions, one per image; `training` are tokenized captions too.

    Raises:
        ValueError: there are no captions.
    """
    if not captions:
        raise ValueError("no captions to measure the diversity of")
    words = [caption.split() for caption in captions]
    repeated = _repeated(captions)
    known = None if training is None else set(training)
    return Diversity(
        {order: _distinct(words, order) for order in DISTINCT_ORDERS},
        len({word for caption in words for word in caption}),
        sum(map(len, words)) / len(words),
        sum(caption not in repeated for caption in captions) / len(captions),
        None if known is None else sum(text not in known for text in captions) / len(captions),
    )


def _distinct(captions: Sequence[Sequence[str]], order: int) -> float:
    """Different n-grams over all n-grams of one order, and 0 where there are none."""
    ngrams = [
        tuple(words[place : place + order])
        for words in captions
        for place in range(len(words) - order + 1)
    ]
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def _repeated(captions: Sequence[str]) -> set[str]:
    """Captions that occur more than once."""
    seen: set[str] = set()
    return {caption for caption in captions if caption in seen or seen.add(caption)}
