"""Two sets of captions of the same images: a paired test per score, and where they differ most."""

from dataclasses import dataclass

import numpy as np

from prefixcap.caption_results import listed
from prefixcap.errors import InputError
from prefixcap.metrics import Comparison, Statistic, compare
from prefixcap.score_sheet import ScoreSheet

# best suited to single images first
RANKED_BY = ("CIDEr", "SPICE", "METEOR", "RefCLIPScore", "CLIPScore", "ROUGE-L", "BLEU-4")
DEPENDS_ON = {  # fact of a sheet -> scores that can be compared only where it is the same
    "clip": ("CLIPScore", "RefCLIPScore"),
    "frequencies": ("CIDEr",),
}


@dataclass(frozen=True)
class Disagreement:
    """One image on which two runs differ: both captions, and their values of one score."""

    image_id: str
    captions: tuple[str, str]
    values: tuple[float, float]


@dataclass(frozen=True)
class SheetComparison:
    """What became of a comparison.

    Attributes:
        images: how many were compared.
        scores: per score that both have, corpus value of the first and of the second.
        tests: per score, the paired bootstrap test.
        ranked_by: the score that orders `disagreements`.
        disagreements: images with the largest difference first.
        left_out: score that both have -> why it was not compared.
    """

    images: int
    scores: dict[str, tuple[float, float]]
    tests: dict[str, Comparison]
    ranked_by: str
    disagreements: list[Disagreement]
    left_out: dict[str, str]


def compare_sheets(
    first: ScoreSheet, second: ScoreSheet, *, shown: int = 10, seed: int = 0
) -> SheetComparison:
    """The scores that both sheets have, tested, and the `shown` images of largest difference.

    Raises:
        InputError: other images, references or tokenizer, or no score that both have.
    """
    refuse_incomparable(first, second)
    order = {image_id: place for place, image_id in enumerate(second.captions)}
    places = np.array([order[image_id] for image_id in first.captions])
    left_out = incomparable_scores(first, second)
    names = [name for name in _shared(first, second) if name not in left_out]
    pairs = {
        name: (first.statistics[name], _ordered(second.statistics[name], places)) for name in names
    }
    ranked_by = next((name for name in RANKED_BY if name in pairs), names[0])
    return SheetComparison(
        len(first.captions),
        {name: (one.corpus, other.corpus) for name, (one, other) in pairs.items()},
        {name: compare(one, other, seed=seed) for name, (one, other) in pairs.items()},
        ranked_by,
        _disagreements(first, second, pairs[ranked_by], shown),
        left_out,
    )


def incomparable_scores(first: ScoreSheet, second: ScoreSheet) -> dict[str, str]:
    """Scores that both sheets have and that were computed in two ways, and which ways these are."""
    return {
        name: f"{first.facts.get(fact)} against {second.facts.get(fact)}"
        for fact, names in DEPENDS_ON.items()
        for name in names
        if name in _shared(first, second) and first.facts.get(fact) != second.facts.get(fact)
    }


def refuse_incomparable(first: ScoreSheet, second: ScoreSheet) -> None:
    """Nothing, where both sheets score the same images by the same references and tokens.

    Raises:
        InputError: the first reason why their numbers cannot be compared.
    """
    here, there = first.facts["tokenizer"], second.facts["tokenizer"]
    if here != there:
        raise InputError(
            f"not comparable: tokenizer {here} against {there}; score both with one --tokenizer"
        )
    only = [
        sorted(one.captions.keys() - other.captions.keys())
        for one, other in ((first, second), (second, first))
    ]
    if any(only):
        sides = [
            f"{len(ids)} images only in the {side} ({listed(ids)})"
            for side, ids in zip(("first", "second"), only, strict=True)
            if ids
        ]
        raise InputError(
            f"not comparable: {'; '.join(sides)}; score the same images of one split in both"
        )
    if first.facts["references"] != second.facts["references"]:
        raise InputError(
            "not comparable: the same images, but other reference captions; score both against "
            "one release of the dataset"
        )
    if not set(_shared(first, second)) - incomparable_scores(first, second).keys():
        raise InputError(
            f"not comparable: {', '.join(first.statistics) or 'nothing'} scored in the first, "
            f"{', '.join(second.statistics) or 'nothing'} in the second, in other ways where names "
            "are the same; score both with the same --metrics, --clip and --frequencies"
        )


def _shared(first: ScoreSheet, second: ScoreSheet) -> list[str]:
    """Scores that both sheets have."""
    return [name for name in first.statistics if name in second.statistics]


def _ordered(statistic: Statistic, places: np.ndarray) -> Statistic:
    """The statistic with its images in another order."""
    return Statistic(statistic.per_image[places], statistic.summands[places], statistic.value)


def _disagreements(
    first: ScoreSheet, second: ScoreSheet, pair: tuple[Statistic, Statistic], shown: int
) -> list[Disagreement]:
    """Images by size of the difference; equal ones stay in the order of the split."""
    values, others = (statistic.per_image for statistic in pair)
    ids = list(first.captions)
    differences = np.nan_to_num(np.abs(values - others))  # 0 where a photo could not be read
    places = np.argsort(-differences, kind="stable")[:shown]
    return [
        Disagreement(
            ids[place],
            (first.captions[ids[place]], second.captions[ids[place]]),
            (float(values[place]), float(others[place])),
        )
        for place in places
        if differences[place]
    ]
