"""All caption metrics of one set of candidates against their references."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from prefixcap.errors import InputError
from prefixcap.metrics import bleu, cider, meteor, ptb, rouge, spice, stanford
from prefixcap.metrics.cider_references import CiderReferences, DocumentFrequencies
from prefixcap.metrics.java import JavaError, ProgramMissingError
from prefixcap.metrics.ngrams import MAX_ORDER, NgramTable, tabulate
from prefixcap.metrics.resampling import Statistic, mean_of

METRICS = ("bleu", "rouge", "cider")
SHOWN_IDS = 10  # ids listed in an error before "and N more"

Statistics = dict[str, Statistic]


@dataclass(frozen=True)
class JavaSettings:
    """What METEOR and SPICE need to know.

    Attributes:
        corenlp: folder of the CoreNLP 3.6.0 jars; None: what PREFIXCAP_CORENLP names.
        spice_cache: folder in which SPICE keeps parses of references; None: it keeps none.
        meteor_memory_mb: heap of METEOR.
        spice_memory_mb: heap of SPICE.
    """

    corenlp: Path | None = None
    spice_cache: Path | None = None
    meteor_memory_mb: int = meteor.MEMORY_MB
    spice_memory_mb: int = spice.MEMORY_MB


@dataclass(frozen=True)
class Scores:
    """Raw values as the COCO code prints them; papers' tables multiply every one by 100.

    Attributes:
        corpus: "BLEU-1" ... "BLEU-4", "METEOR", "ROUGE-L", "SPICE" (0 to 1), "CIDEr" (CIDEr-D,
            0 to 10).
        per_image: the same names, each with a value per image id. Corpus values are their means,
            except those of BLEU and METEOR, which come from summed counts.
        images: number of images scored.
        tokenizer: name of the tokenizer that split the captions.
        not_scored: metric that was asked for -> what is missing and how to get it, or how its
            program failed.
        failed: those of them whose program was there and failed.
        statistics: what `interval` and `compare` resample, by the same names.
    """

    corpus: dict[str, float]
    per_image: dict[str, dict[Hashable, float]]
    images: int
    tokenizer: str
    not_scored: dict[str, str]
    failed: list[str]
    statistics: Statistics = field(repr=False)


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
    java: JavaSettings = JavaSettings(),
    frequencies: DocumentFrequencies | None = None,
) -> Scores:
    """Corpus and per-image values of the chosen metrics, on the COCO code's scales.

    METEOR and SPICE, where Java or their files are missing or their programs fail, are left out,
    and `not_scored` says so: hours of captioning are not lost with one number.

    Args:
        candidates: one caption per image id, as written; tokenizing is done here.
        references: at least one caption per image id.
        metrics: of "bleu", "meteor", "rouge", "cider", "spice".
        tokenizer: "ptb" (ours), "stanford" (Java), or "none" for captions that are tokens already.
        java: settings of METEOR and SPICE.
        frequencies: what CIDEr-D weighs n-grams by; None: those of these references.

    Raises:
        InputError: an id without candidate or references, an unknown metric or tokenizer.
        JavaError: Stanford's tokenizer failed.
    """
    chosen = {metric: _named(SCORERS, metric, "metric") for metric in metrics}
    if frequencies is not None and "cider" in chosen:
        chosen["cider"] = lambda captions, _: _cider_by(captions, frequencies)
    captions = tokenize_all(candidates, references, tokenizer)
    statistics: Statistics = {}
    not_scored: dict[str, str] = {}
    failed = []
    for metric, scorer in chosen.items():
        try:
            statistics |= scorer(captions, java)
        except ProgramMissingError as error:
            not_scored[metric] = str(error)
        except JavaError as error:
            not_scored[metric] = str(error)
            failed.append(metric)
    per_image = {
        name: dict(zip(captions.ids, statistic.per_image.tolist(), strict=True))
        for name, statistic in statistics.items()
    }
    corpus = {name: statistic.corpus for name, statistic in statistics.items()}
    images = len(captions.ids)
    return Scores(corpus, per_image, images, tokenizer, not_scored, failed, statistics)


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


def _bleu(captions: TokenizedCaptions, _: JavaSettings) -> Statistics:
    """BLEU-1 to BLEU-4."""
    counts = bleu.count(captions.ngrams)
    per_image = bleu.from_counts(counts)
    return {
        f"BLEU-{order + 1}": Statistic(
            per_image[:, order],
            counts,
            lambda sums, order=order: bleu.from_counts(sums)[..., order],
        )
        for order in range(MAX_ORDER)
    }


def _rouge(captions: TokenizedCaptions, _: JavaSettings) -> Statistics:
    """ROUGE-L. The COCO code splits at the space alone here, so that "" is one (empty) word."""
    values = rouge.per_image(
        [text.split(" ") for text in captions.candidates],
        [[text.split(" ") for text in group] for group in captions.references],
    )
    return {"ROUGE-L": mean_of(values)}


def _cider(captions: TokenizedCaptions, _: JavaSettings) -> Statistics:
    """CIDEr-D, which the COCO code and most tables call CIDEr."""
    return {"CIDEr": mean_of(cider.per_image(captions.ngrams))}


def _cider_by(captions: TokenizedCaptions, frequencies: DocumentFrequencies) -> Statistics:
    """CIDEr-D with frequencies that were counted elsewhere."""
    references = dict(zip(captions.ids, captions.references, strict=True))
    prepared = CiderReferences(references, frequencies)
    return {"CIDEr": mean_of(prepared.score(captions.ids, captions.candidates))}


def _meteor(captions: TokenizedCaptions, java: JavaSettings) -> Statistics:
    """METEOR 1.5."""
    values, counts = meteor.score(captions.candidates, captions.references, java.meteor_memory_mb)
    return {"METEOR": Statistic(values, counts, meteor.from_counts)}


def _spice(captions: TokenizedCaptions, java: JavaSettings) -> Statistics:
    """SPICE."""
    values, _ = spice.score(
        captions.candidates,
        captions.references,
        java.corenlp,
        java.spice_cache,
        java.spice_memory_mb,
    )
    return {"SPICE": mean_of(values)}


def _none(texts: Sequence[str]) -> list[str]:
    """Captions that are tokens already, joined by spaces."""
    return [" ".join(filter(None, text.split(" "))) for text in texts]


SCORERS: dict[str, Callable[[TokenizedCaptions, JavaSettings], Statistics]] = {
    "bleu": _bleu,
    "meteor": _meteor,
    "rouge": _rouge,
    "cider": _cider,
    "spice": _spice,
}
TOKENIZERS: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "ptb": ptb.tokenize_lines,
    "stanford": stanford.tokenize_lines,
    "none": _none,
}
