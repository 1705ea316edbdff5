"""Figure 6 of ClipCap as numbers: how shared prefixes are between images, how readable."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from prefixcap.errors import InputError
from prefixcap.explain.prefix import NearestToken, nearest_tokens
from prefixcap.report.words import FUNCTION_WORDS, singular

RANDOM_DIRECTIONS = 256
TINY = 1e-9  # of squared lengths: what is below is rounding
Words = Sequence[Sequence[Sequence[NearestToken]]]  # of each image and slot, nearest first


@dataclass(frozen=True)
class Sharing:
    """How much of the prefixes different images have in common; one value for each slot.

    Attributes:
        cosine: mean cosine between different images' vectors of the slot; 1: they are the same.
        between: share, 0 to 1, of the vectors' mean squared length that is variance between images;
            the rest is the slot's mean vector, the same for all.
        directions: in how many directions the vectors differ between images: the participation
            ratio of their covariance's eigenvalues, 1 to B - 1; 0 where they do not differ.
    """

    cosine: list[float]
    between: list[float]
    directions: list[float]


@dataclass(frozen=True)
class Readability:
    """Whether the nearest token of a slot is a word about the image; shares are of all slots.

    Attributes:
        own_caption: share whose token is a content word of the caption written for the image.
        references: of a reference of the image; None without references.
        other_references: of a reference of another image: what chance gives.
        any_reference: of any reference of the images; None without references.
        same_word: share of slot positions whose token is the same in more than half of the images.
        cosine: mean cosine of vector and nearest token.
        random_cosine: that of random directions, below which no vector lies near any word.
    """

    own_caption: float
    references: float | None
    other_references: float | None
    any_reference: float | None
    same_word: float
    cosine: float
    random_cosine: float


def sharing(prefixes: Tensor) -> Sharing:
    """What the prefixes (B, P, D) of B different images share.

    Raises:
        InputError: fewer than two images.
    """
    if len(prefixes) < 2:
        raise InputError("one image: what prefixes share takes two or more")
    prefixes = prefixes.float()
    differences = prefixes - prefixes.mean(0)  # (B, P, D)
    squares = prefixes.square().sum(-1).mean(0).clamp(min=TINY)  # (P,)
    between = differences.square().sum(-1).mean(0) / squares
    directions = [_directions(slot) for slot in differences.unbind(1)]
    return Sharing(_mean_cosines(prefixes).tolist(), between.tolist(), directions)


def _directions(differences: Tensor) -> float:
    """Participation ratio of the eigenvalues of the covariance of `differences` (B, D)."""
    wide = differences.shape[0] < differences.shape[1]
    products = differences @ differences.T if wide else differences.T @ differences
    total, squares = float(products.trace()), float(products.square().sum())
    return total**2 / squares if total > TINY else 0.0


def _mean_cosines(prefixes: Tensor) -> Tensor:
    """Mean cosine (P,) over all pairs of different images."""
    count = len(prefixes)
    directions = F.normalize(prefixes, dim=-1)
    total = directions.sum(0).square().sum(-1)  # (P,): all pairs, each image with itself as well
    itself = directions.square().sum((0, 2))  # count, but for vectors of length 0
    return (total - itself) / (count * (count - 1))


def readability(
    words: Words,
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    vocabulary: Tensor,
) -> Readability:
    """How readable the nearest tokens are as words about their images.

    Plurals count as their singular, and words such as "the" and "with" do not count. A token is
    compared as text: a caption's word that the vocabulary cuts into pieces cannot be found.

    Args:
        words: nearest tokens of each image and slot.
        captions: what the model wrote of each image.
        references: what people wrote of each image; () where nobody did.
        vocabulary: (V, D) word embeddings of the language model.
    """
    first = [[slot[0] for slot in slots] for slots in words]
    own = [content_words([text]) for text in captions]
    told = [content_words(texts) for texts in references]
    others = told[1:] + told[:1]
    everything = frozenset().union(*told)
    has_references = any(told)
    return Readability(
        own_caption=_share(first, own),
        references=_share(first, told) if has_references else None,
        other_references=_share(first, others) if has_references and len(told) > 1 else None,
        any_reference=_share(first, [everything] * len(first)) if has_references else None,
        same_word=same_word_share(words),
        cosine=_mean([token.similarity for slots in first for token in slots]),
        random_cosine=random_cosine(vocabulary),
    )


def content_words(texts: Sequence[str]) -> frozenset[str]:
    """Words of the texts that name something, in the singular."""
    found = (word for text in texts for word in re.findall(r"[a-z]{2,}", text.lower()))
    return frozenset(singular(word) for word in found if word not in FUNCTION_WORDS)


def same_word_share(words: Words) -> float:
    """Share of slots, 0 to 1, whose nearest token is the same in more than half of the images."""
    slots = list(zip(*words, strict=True))  # of each slot, what it says of every image
    most = [Counter(nearest[0].token_id for nearest in said).most_common(1)[0][1] for said in slots]
    return _mean([count > len(words) / 2 for count in most])


def random_cosine(vocabulary: Tensor) -> float:
    """Mean cosine of random directions and the tokens nearest to them; always the same."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(1, RANDOM_DIRECTIONS, vocabulary.shape[1], generator=generator)
    found, _ = nearest_tokens(directions.to(vocabulary.device), vocabulary.detach(), 1)
    return float(found.mean())


def _share(first: Sequence[Sequence[NearestToken]], words: Sequence[frozenset[str]]) -> float:
    """Share of slots whose token is among the words of its image."""
    return _mean(
        [
            bool(content_words([token.text]) & known) and token.text.isalpha()
            for slots, known in zip(first, words, strict=True)
            for token in slots
        ]
    )


def _mean(values: Sequence[float]) -> float:
    """Mean of a list that is not empty."""
    return sum(values) / len(values)
