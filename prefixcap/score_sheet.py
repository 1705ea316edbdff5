"""`scores-SPLIT.json`: scores with intervals, what they belong to, and what can be compared."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from prefixcap import __version__, atomic
from prefixcap.datasets.annotations import read_json
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError
from prefixcap.metrics import (
    METRICS,
    DocumentFrequencies,
    JavaSettings,
    Scores,
    Statistic,
    diversity,
    interval,
    people_words,
    score,
)
from prefixcap.metrics import bleu as bleu_metric
from prefixcap.metrics import meteor as meteor_metric
from prefixcap.metrics.resampling import LEVEL, RESAMPLES
from prefixcap.metrics.score import TOKENIZERS

FORMAT_VERSION = 1
# That captions and scores can depend on; the last carries the programs that run on Java.
PACKAGES = ("numpy", "torch", "transformers", "pillow", "pycocoevalcap")


@dataclass(frozen=True)
class Scoring:
    """How captions are scored.

    Attributes:
        metrics: of "bleu", "meteor", "rouge", "cider", "spice".
        tokenizer: "ptb", "stanford" or "none".
        seed: of the bootstrap.
        java: settings of METEOR and SPICE.
        frequencies: what CIDEr-D weighs n-grams by; None: those of the references scored.
    """

    metrics: Sequence[str] = METRICS
    tokenizer: str = "ptb"
    seed: int = 0
    java: JavaSettings = field(default_factory=JavaSettings)
    frequencies: DocumentFrequencies | None = None


@dataclass(frozen=True)
class ScoreSheet:
    """Scores of one split's captions.

    Attributes:
        facts: everything but the values of single images, as the file has it.
        captions: image id -> caption, of the images that were scored.
        statistics: per score, what intervals and tests resample, images in the same order.
    """

    facts: dict[str, Any]
    captions: dict[str, str]
    statistics: dict[str, Statistic]


def score_sheet(
    captions: Mapping[str, str],
    records: Sequence[CaptionRecord],
    scoring: Scoring = Scoring(),
    training: Sequence[str] | None = None,
    by_photo: Mapping[str, Statistic] | None = None,
) -> ScoreSheet:
    """Scores of the images that have a caption and references, overall and per nocaps domain.

    Args:
        captions: image id -> caption.
        records: of the split, with the references.
        scoring: metrics, tokenizer, seed.
        training: training captions, which captions are then compared with for novelty.
        by_photo: scores that need the photos, of `scored_records(captions, records)` in order.

    Raises:
        InputError: no image has both, or an unknown metric or tokenizer.
    """
    scored = scored_records(captions, records)
    texts = {record.image_id: captions[record.image_id] for record in scored}
    scores = _scores(texts, scored, scoring)
    statistics = scores.statistics | dict(by_photo or {})
    facts = {
        "format_version": FORMAT_VERSION,
        **_summary(statistics, scoring),
        "images": len(scored),
        "interval": {"level": LEVEL, "resamples": RESAMPLES, "seed": scoring.seed},
        "not_scored": scores.not_scored,
        "failed": scores.failed,
        "domains": _by_domain(statistics, scored, scoring),
        "diversity": _diversity(texts, scoring.tokenizer, training),
        "people": _people(texts, scored, scoring.tokenizer),
        "tokenizer": scores.tokenizer,
        "frequencies": scoring.frequencies.digest() if scoring.frequencies else None,
        "references": references_digest(scored),
        "versions": versions(),
    }
    return ScoreSheet(facts, texts, statistics)


def scored_records(
    captions: Mapping[str, str], records: Sequence[CaptionRecord]
) -> list[CaptionRecord]:
    """Records that have a caption and references; where none has references, with a caption.

    Raises:
        InputError: there are none.
    """
    captioned = [record for record in records if record.image_id in captions]
    found = [record for record in captioned if record.captions]
    if not captioned or (not found and any(record.captions for record in records)):
        raise InputError("no photo of the split has both a caption and references to score it by")
    return found or captioned


def mean_of_known(values: np.ndarray) -> Statistic:
    """Statistic whose corpus score is the mean of the values (images,) that are not NaN."""
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    summands = np.stack([np.where(known, values, 0), known], axis=1)
    return Statistic(values, summands, lambda sums: sums[..., 0] / np.maximum(sums[..., 1], 1))


def references_digest(records: Sequence[CaptionRecord]) -> str:
    """Hash of the image ids and their references, 16 hexadecimal digits; order does not matter."""
    digest = hashlib.blake2b(digest_size=8)
    for record in sorted(records, key=lambda record: record.image_id):
        digest.update(json.dumps([record.image_id, *record.captions]).encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of prefixcap, Python and the packages that numbers can depend on."""
    found = {"prefixcap": __version__, "python": platform.python_version()}
    installed = {name: _version(name) for name in PACKAGES}
    return found | {name: version for name, version in installed.items() if version}


def write_sheet(path: Path, sheet: ScoreSheet) -> None:
    """Write `sheet` to `path`, atomically: the facts first, then one line per image."""
    rows = []
    for place, (image_id, caption) in enumerate(sheet.captions.items()):
        values = {name: _known(one.per_image[place]) for name, one in sheet.statistics.items()}
        counts = {
            name: sheet.statistics[source].summands[place].tolist()
            for name, source in (("bleu", "BLEU-1"), ("meteor", "METEOR"))
            if source in sheet.statistics
        }
        rows.append({"image_id": image_id, "caption": caption, "scores": values, "counts": counts})
    facts = json.dumps(sheet.facts, indent=2, ensure_ascii=False).removesuffix("\n}")
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    atomic.write_text(path, f'{facts},\n  "per_image": [\n{lines}\n  ]\n}}\n')


def read_sheet(path: Path) -> ScoreSheet:
    """The sheet that `write_sheet` wrote.

    Raises:
        InputError: the file is missing, cut off or something else.
    """
    value = read_json(path)
    if not is_sheet(value):
        raise InputError(f"{path}: is no scores file; write one with prefixcap evaluate")
    if value["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{path}: format {value['format_version']}, this release reads {FORMAT_VERSION}. "
            "Write it again: prefixcap evaluate"
        )
    rows = value.pop("per_image")
    try:
        captions = {row["image_id"]: row["caption"] for row in rows}
        statistics = {name: _statistic(name, rows) for name in value["scores"]}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: its values of single images are damaged ({error!r}). Write it again: "
            "prefixcap evaluate"
        ) from error
    return ScoreSheet(value, captions, statistics)


def is_sheet(value: Any) -> bool:
    """Whether the content of a JSON file is that of a scores file."""
    return isinstance(value, dict) and {"format_version", "scores", "per_image"} <= value.keys()


def _statistic(name: str, rows: Sequence[dict[str, Any]]) -> Statistic:
    """What is resampled for the score `name`: counts for BLEU and METEOR, else the values."""
    values = np.array([row["scores"][name] for row in rows], np.float64)  # (images,), None is NaN
    if name.startswith("BLEU-"):
        order = int(name.removeprefix("BLEU-")) - 1
        counts = np.array([row["counts"]["bleu"] for row in rows], np.float64)
        return Statistic(values, counts, lambda sums: bleu_metric.from_counts(sums)[..., order])
    if name == "METEOR":
        counts = np.array([row["counts"]["meteor"] for row in rows], np.float64)
        return Statistic(values, counts, meteor_metric.from_counts)
    return mean_of_known(values)


def _known(value: float) -> float | None:
    """A value of one image as JSON can hold it: None for NaN."""
    return None if np.isnan(value) else float(value)


def _scores(
    captions: Mapping[str, str], records: Sequence[CaptionRecord], scoring: Scoring
) -> Scores:
    """Scores of the records' captions; none where the records have no references."""
    if not records[0].captions:
        return Scores({}, {}, len(records), scoring.tokenizer, {}, [], {})
    references = {record.image_id: record.captions for record in records}
    return score(
        {image_id: captions[image_id] for image_id in references},
        references,
        scoring.metrics,
        scoring.tokenizer,
        scoring.java,
        scoring.frequencies,
    )


def _summary(statistics: Mapping[str, Statistic], scoring: Scoring) -> dict[str, Any]:
    """Number of images, scores and their intervals; without scores that no image has."""
    statistics = {
        name: one for name, one in statistics.items() if not np.isnan(one.per_image).all()
    }
    ends = {name: interval(statistic, seed=scoring.seed) for name, statistic in statistics.items()}
    return {
        "images": max((len(one.per_image) for one in statistics.values()), default=0),
        "scores": {name: statistic.corpus for name, statistic in statistics.items()},
        "intervals": {name: [end.low, end.high] for name, end in ends.items()},
    }


def _by_domain(
    statistics: Mapping[str, Statistic], records: Sequence[CaptionRecord], scoring: Scoring
) -> dict[str, Any]:
    """Summary of each domain's images, in alphabetical order; {} where there are no domains.

    CIDEr-D keeps the document frequencies of the whole split. So must nocaps' own evaluation: in
    Mokady et al. 2021, table 1B, the overall CIDEr of both ClipCap rows is, to the last digit, the
    mean of the domains' weighted by their 648, 2,938 and 914 images.
    """
    domains = sorted({record.domain for record in records if record.domain})
    found = {}
    for domain in domains:
        places = np.array([n for n, record in enumerate(records) if record.domain == domain])
        part = {
            name: Statistic(one.per_image[places], one.summands[places], one.value)
            for name, one in statistics.items()
        }
        found[domain] = _summary(part, scoring)
    return found


def _diversity(
    captions: Mapping[str, str], tokenizer: str, training: Sequence[str] | None
) -> dict[str, Any]:
    """How varied the captions are; `novel` is None where no training captions are given."""
    split = TOKENIZERS[tokenizer]
    known = None if training is None else split(list(training))
    return asdict(diversity(split(list(captions.values())), known))


def _people(
    captions: Mapping[str, str], records: Sequence[CaptionRecord], tokenizer: str
) -> dict[str, Any]:
    """What the captions say of women and men; empty without references."""
    split = TOKENIZERS[tokenizer]
    tokens = dict(zip(captions, split(list(captions.values())), strict=True))
    told = iter(split([text for record in records for text in record.captions]))
    references = {r.image_id: [next(told) for _ in r.captions] for r in records if r.captions}
    tokens = {image_id: tokens[image_id] for image_id in references}
    return {name: asdict(found) for name, found in people_words(tokens, references).items()}


def _version(package: str) -> str | None:
    """Installed version of a package, None where it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
