"""Rows of the papers' tables, to stand beside scores on the same split."""

from collections.abc import Mapping
from dataclasses import dataclass

CLIPCAP = "Mokady et al. 2021 (arXiv 2111.09734)"
VIZWIZ = "Saleem, Rohan and Ehghaghi (CLIP for VizWiz captions)"
OWN = "paper, "  # begins the titles of ClipCap's own rows in table 1


@dataclass(frozen=True)
class PublishedRow:
    """One row of a paper's table.

    Attributes:
        title: of the row.
        source: paper and table.
        scores: score name -> value x100 as printed.
        trained_millions: trainable parameters, None where the paper does not say.
        time: training time as printed, "" where the paper does not say.
        images: that were scored, None where the paper's set cannot be had again.
    """

    title: str
    source: str
    scores: Mapping[str, float]
    trained_millions: float | None = None
    time: str = ""
    images: int | None = None


def _coco(title: str, scores: tuple[float, ...], trained: float, time: str) -> PublishedRow:
    """A row of ClipCap's table 1C or 1D: BLEU-4, METEOR, CIDEr, SPICE."""
    named = dict(zip(("BLEU-4", "METEOR", "CIDEr", "SPICE"), scores, strict=True))
    return PublishedRow(title, f"{CLIPCAP}, table 1", named, trained, time, 5000)


def _nocaps(title: str, scores: tuple[float, ...], trained: float, time: str) -> PublishedRow:
    """A row of ClipCap's table 1B, overall: CIDEr, SPICE."""
    named = dict(zip(("CIDEr", "SPICE"), scores, strict=True))
    return PublishedRow(title, f"{CLIPCAP}, table 1", named, trained, time, 4500)


def _conceptual(title: str, scores: tuple[float, ...], trained: float, time: str) -> PublishedRow:
    """A row of ClipCap's table 1A: ROUGE-L, CIDEr, SPICE, on the 12.5k images that were left."""
    named = dict(zip(("ROUGE-L", "CIDEr", "SPICE"), scores, strict=True))
    return PublishedRow(title, f"{CLIPCAP}, table 1", named, trained, time)


def _vizwiz(title: str, *scores: float) -> PublishedRow:
    """Best epoch of a final model of the VizWiz study: BLEU-1, BLEU-4, ROUGE-L, CIDEr, METEOR."""
    named = dict(zip(("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr", "METEOR"), scores, strict=True))
    return PublishedRow(title, f"{VIZWIZ}, final models", named, images=7750)


TUNED, FROZEN = "MLP + GPT-2 tuning", "transformer"
ROWS: dict[tuple[str, str], tuple[PublishedRow, ...]] = {
    ("coco-karpathy", "test"): (
        _coco("BUTD", (36.2, 27.0, 113.5, 20.3), 52, "960 h (M40)"),
        _coco("VLP", (36.5, 28.4, 117.7, 21.3), 115, "48 h (V100)"),
        _coco("Oscar", (36.58, 30.4, 124.12, 23.17), 135, "74 h (V100)"),
        _coco(OWN + TUNED, (32.15, 27.1, 108.35, 20.12), 156, "7 h (GTX1080)"),
        _coco(OWN + FROZEN, (33.53, 27.45, 113.08, 21.05), 43, "6 h (GTX1080)"),
        _coco("ablation: transformer + GPT-2 tuning", (32.22, 27.79, 109.83, 20.63), 167, "7 h"),
        _coco("ablation: MLP, GPT-2 frozen", (27.39, 24.4, 92.38, 18.04), 32, "6 h"),
    ),
    ("nocaps", "val"): (
        _nocaps("BUTD", (54.3, 10.1), 52, "960 h"),
        _nocaps("Oscar", (63.8, 11.2), 135, "74 h"),
        _nocaps(OWN + TUNED, (65.7, 11.1), 156, "7 h"),
        _nocaps(OWN + FROZEN, (65.83, 10.86), 43, "6 h"),
    ),
    ("conceptual", "val"): (
        _conceptual("VLP", (24.35, 77.57, 16.59), 115, "1200 h (V100)"),
        _conceptual(OWN + TUNED, (26.71, 87.26, 18.5), 156, "80 h (GTX1080)"),
        _conceptual(OWN + FROZEN, (25.12, 71.82, 16.07), 43, "72 h (GTX1080)"),
    ),
    ("vizwiz", "val"): (
        _vizwiz("CNN+LSTM, epoch 5", 44.1, 8.7, 31.3, 12.7, 10.7),
        _vizwiz("CLIP+LSTM, epoch 3", 53.3, 13.3, 36.7, 23.1, 14.3),
        _vizwiz("CLIP+attention, epoch 1", 25.3, 3.3, 23.3, 0.4, 9.2),
    ),
}

NOCAPS_DOMAINS: dict[str, dict[str, tuple[float, float]]] = {  # table 1B: CIDEr, SPICE
    "in-domain": {TUNED: (79.73, 12.2), FROZEN: (84.85, 12.14)},
    "near-domain": {TUNED: (67.69, 11.26), FROZEN: (66.82, 10.92)},
    "out-domain": {TUNED: (49.35, 9.7), FROZEN: (49.14, 9.57)},
}


def published_rows(dataset: str, split: str | None) -> Mapping[str, Mapping[str, float]]:
    """ClipCap's own rows: title -> score -> value x100 as printed; {} where none is known."""
    rows = all_published_rows(dataset, split)
    return {row.title: row.scores for row in rows if row.title.startswith(OWN)}


def images_of_rows(dataset: str, split: str | None) -> int | None:
    """How many images ClipCap's own rows are of; None where there are no rows, or it is unknown."""
    rows = all_published_rows(dataset, split)
    return next((row.images for row in rows if row.title.startswith(OWN)), None)


def all_published_rows(dataset: str, split: str | None) -> tuple[PublishedRow, ...]:
    """Every row that papers print for a dataset and split, as printed; () where none is known."""
    return ROWS.get((dataset, split or ""), ())


def published_domain_rows(
    dataset: str, split: str | None, domain: str
) -> Mapping[str, Mapping[str, float]]:
    """ClipCap's own rows of one nocaps domain, as `published_rows`."""
    rows = NOCAPS_DOMAINS.get(domain, {}) if (dataset, split) == ("nocaps", "val") else {}
    return {
        OWN + title: dict(zip(("CIDEr", "SPICE"), scores, strict=True))
        for title, scores in rows.items()
    }
