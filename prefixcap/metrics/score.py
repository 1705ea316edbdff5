"""All caption metrics of one set of candidates against their references."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from prefixcap.errors import InputError
from prefixcap.metrics import bleu, cider, ptb, rouge
from prefixcap.metrics.ngrams import NgramTable, tabulate

METRICS = ("bleu", "rouge", "cider")
SHOWN_IDS = 10  # ids listed in an error before "and N more"

Columns = dict[str, tuple[float, np.ndarray]]  # name -> corpus value, value per image


@dataclass(frozen=True)
class Scores:
    """Raw values as the COCO code prints them; papers' tables multiply every one by 100.

    Attributes:
        corpus: "BLEU-1" ... "BLEU-4", "ROUGE-L" (0 to 1), "CIDEr" (CIDEr-D, 0 to 10).
        per_image: the same names, each with a value per image id. Corpus values are their means,
            except BLEU's, which are ratios of sums.
        images: number of images scored.
        tokenizer: name of the tokenizer that split the captions.
    """

    corpus: dict[str, float]
    per_image: dict[str, dict[Hashable, float]]
    images: int
    tokenizer: str


@dataclass(frozen=True)
class TokenizedCaptions:
    """Tokenized candidate and references of each image, in one order."""

    ids: list[Hashable]
    candidates: list[str]
    references: list[list[str]]

    @cached_property
    def ngrams(self) -> NgramTable:
        """N-grams of all captions, counted once."""
        groups = [[text.split() for text in group] for group in self.references]
        return tabulate([text.split() for text in self.candidates], groups)


def score(
    candidates: Mapping[Hashable, str],
    references: Mapping[Hashable, Sequence[str]],
    metrics: Sequence[str] = METRICS,
    tokenizer: str = "ptb",
) -> Scores:
    """Corpus and per-image values of the chosen metrics, on the COCO code's scales.

    Raises:
        InputError: an id without candidate or references, an unknown metric or tokenizer.
    """
    chosen = [_named(SCORERS, metric, "metric") for metric in metrics]
    captions = tokenize_all(candidates, references, tokenizer)
    columns: Columns = {}
    for scorer in chosen:
        columns |= scorer(captions)
    return Scores(
        {name: value for name, (value, _) in columns.items()},
        {
            name: dict(zip(captions.ids, column.tolist(), strict=True))
            for name, (_, column) in columns.items()
        },
        len(captions.ids),
        tokenizer,
    )


def tokenize_all(
    candidates: Mapping[Hashable, str],
    references: Mapping[Hashable, Sequence[str]],
    tokenizer: str = "ptb",
) -> TokenizedCaptions:
    """Candidates and references as tokens, images in the order of `candidates`.

    Raises:
        InputError: the ids differ, there are none, an image has no reference, or the tokenizer is
            unknown.
    """
    split = _named(TOKENIZERS, tokenizer, "tokenizer")
    check_ids(candidates, references)
    ids = list(candidates)
    sizes = [len(references[key]) for key in ids]
    # two lists, as the COCO code tokenizes: a caption's last stop can depend on the next caption
    rest = iter(split([text for key in ids for text in references[key]]))
    groups = [[next(rest) for _ in range(size)] for size in sizes]
    return TokenizedCaptions(ids, split(list(candidates.values())), groups)


def check_ids(
    candidates: Mapping[Hashable, str], references: Mapping[Hashable, Sequence[str]]
) -> None:
    """Nothing, where each image has one candidate and at least one reference.

    Raises:
        InputError: an id is on one side only, an image has no reference, or there is no image.
    """
    if not candidates and not references:
        raise InputError("no captions to score: candidates and references are both empty")
    problems = {
        "references, but no candidate": [key for key in references if key not in candidates],
        "a candidate, but no references": [key for key in candidates if not references.get(key)],
    }
    found = [f"{len(ids)} ids have {what}: {_listed(ids)}" for what, ids in problems.items() if ids]
    if found:
        raise InputError(
            f"{'; '.join(found)}. Score the same images on both sides: add or drop these ids"
        )
    strings = [key for key, group in references.items() if isinstance(group, str)]
    if strings:
        raise InputError(
            f"references of {_listed(strings)} are one string; expected a list of captions"
        )


def _listed(ids: Sequence[Hashable]) -> str:
    """The first ids, and how many more there are."""
    shown = ", ".join(str(key) for key in ids[:SHOWN_IDS])
    more = len(ids) - SHOWN_IDS
    return f"{shown} and {more} more" if more > 0 else shown


def _named(table: Mapping[str, Callable], name: str, kind: str) -> Callable:
    """Entry `name` of the table, or an error that lists the names."""
    if name not in table:
        raise InputError(f'unknown {kind} "{name}"; choose from {", ".join(table)}')
    return table[name]


def _bleu(captions: TokenizedCaptions) -> Columns:
    """BLEU-1 to BLEU-4."""
    counts = bleu.count(captions.ngrams)
    corpus, per_image = bleu.corpus(counts), bleu.per_image(counts)
    return {
        f"BLEU-{order + 1}": (float(corpus[order]), per_image[:, order])
        for order in range(len(corpus))
    }


def _rouge(captions: TokenizedCaptions) -> Columns:
    """ROUGE-L. The COCO code splits at the space alone here, so that "" is one (empty) word."""
    values = rouge.per_image(
        [text.split(" ") for text in captions.candidates],
        [[text.split(" ") for text in group] for group in captions.references],
    )
    return {"ROUGE-L": (float(np.mean(values)), values)}


def _cider(captions: TokenizedCaptions) -> Columns:
    """CIDEr-D, which the COCO code and most tables call CIDEr."""
    values = cider.per_image(captions.ngrams)
    return {"CIDEr": (float(np.mean(values)), values)}


def _none(texts: Sequence[str]) -> list[str]:
    """Captions that are tokens already, joined by spaces."""
    return [" ".join(filter(None, text.split(" "))) for text in texts]


SCORERS: dict[str, Callable[[TokenizedCaptions], Columns]] = {
    "bleu": _bleu,
    "rouge": _rouge,
    "cider": _cider,
}
TOKENIZERS: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "ptb": ptb.tokenize_lines,
    "none": _none,
}
