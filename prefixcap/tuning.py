"""Decoding chosen on a dev split by CIDEr-D: images encoded once, decoded under many settings."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from torch import Tensor

from prefixcap import atomic
from prefixcap.captioner import Captioner
from prefixcap.config import DecodeOptions, parse
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError
from prefixcap.evaluate import BATCH, open_photos
from prefixcap.images import Skipped
from prefixcap.metrics import CiderReferences, Comparison, compare
from prefixcap.metrics.ptb import tokenize_lines
from prefixcap.metrics.resampling import mean_of
from prefixcap.model_card import decoding_lines
from prefixcap.model_files import CARD_FILE, CONFIG_FILE, open_model

Progress = Callable[[str, int, int], None]  # what, how many are done, of how many


@dataclass(frozen=True)
class Grid:
    """The settings that are combined; length penalties are for beams, greedy has none."""

    beams: Sequence[int] = (1, 3, 5)
    length_penalties: Sequence[float] = (0.7, 1.0, 1.3)
    min_tokens: Sequence[int] = (0, 8)


@dataclass(frozen=True)
class Trial:
    """What one setting gives: CIDEr-D of each image, (images,) float64, and words per caption."""

    options: DecodeOptions
    per_image: np.ndarray
    words: float

    @property
    def cider(self) -> float:
        """CIDEr-D, 0 to 10 (tables show x100)."""
        return float(self.per_image.mean())


@dataclass(frozen=True)
class Tuning:
    """All trials, the model's own setting first, and how the best differs from that.

    Attributes:
        trials: in the order in which they ran.
        best: of the highest CIDEr-D; of equal ones, the first.
        gain: paired bootstrap test of `best` against the model's own setting. The best of many is
            chosen on these images, so other images will show less.
        images: image ids that were decoded.
        skipped: photos that could not be read.
    """

    trials: list[Trial]
    best: Trial
    gain: Comparison
    images: list[str]
    skipped: list[Skipped]


def refuse_test_split(split: str | None, records: Sequence[CaptionRecord]) -> None:
    """Nothing, where neither the split asked for nor a record's is named after a test.

    Raises:
        InputError: one is.
    """
    names = {split or ""} | {record.split for record in records}
    found = sorted(name for name in names if "test" in name.lower())
    if found:
        raise InputError(
            f'split "{found[0]}": what is tuned on a test split looks better than it is; name a '
            "dev split with --split, or insist with --even-on-test"
        )


def candidates(stored: DecodeOptions, grid: Grid) -> list[DecodeOptions]:
    """The stored options, then every combination of the grid once, narrow beams first.

    Beams narrower than the captions per image that the model is to give are left out.

    Raises:
        InputError: a value that no decoding can have.
    """
    found = [stored]
    for beam, least, penalty in product(grid.beams, grid.min_tokens, grid.length_penalties):
        if beam < stored.captions_per_image:
            continue
        changes: dict[str, object] = {"beam_size": beam, "min_tokens": least, "method": "greedy"}
        if beam != 1:
            changes |= {"method": "beam", "order": "sum", "length_penalty": penalty}
        options = parse(DecodeOptions, {**stored.model_dump(), **changes}, "settings to try")
        if not any(_same(options, other) for other in found):
            found.append(options)
    return found


def tune(
    captioner: Captioner,
    records: Sequence[CaptionRecord],
    grid: Grid,
    on_progress: Progress = lambda what, done, total: None,
) -> Tuning:
    """Every setting of the grid on the photos that can be read and have references.

    Raises:
        InputError: there is no such photo, or a setting that the model cannot serve.
    """
    settings = candidates(captioner.model.config.decoding, grid)
    for options in settings:
        captioner.check(options)
    with_references = [record for record in records if record.captions]
    readable, batches, skipped = _encode(captioner, with_references, on_progress)
    if not readable:
        raise InputError("no photo of the split can be read and has captions to compare with")
    ids = [record.image_id for record in readable]
    references = _references(readable)
    trials = []
    for done, options in enumerate(settings, 1):
        texts = [text for batch in batches for text in _captions(captioner, batch, options)]
        tokens = tokenize_lines(texts)
        words = sum(len(text.split()) for text in tokens) / len(tokens)
        trials.append(Trial(options, references.score(ids, tokens), words))
        on_progress("settings", done, len(settings))
    best = max(trials, key=lambda trial: trial.cider)
    gain = compare(mean_of(best.per_image), mean_of(trials[0].per_image))
    return Tuning(trials, best, gain, ids, skipped)


def store_decoding(folder: Path, options: DecodeOptions) -> None:
    """Make `options` those of the model in `folder`: in its settings, and on its card.

    A calibration goes with the decoding that it was found with. Nothing else of config.json
    changes; the file is replaced in one moment.

    Raises:
        InputError: the folder holds no model.
        OSError: it cannot be written.
    """
    before = open_model(str(folder)).config.decoding
    config = folder / CONFIG_FILE
    values = json.loads(config.read_text(encoding="utf-8"))
    values |= {"decoding": options.model_dump(mode="json"), "calibration": None}
    atomic.write_json(config, values)
    card = folder / CARD_FILE
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        atomic.write_text(card, text.replace(decoding_lines(before), decoding_lines(options)))


def _same(one: DecodeOptions, other: DecodeOptions) -> bool:
    """Whether two settings write the same captions by their own words."""
    left, right = (options.model_dump(exclude={"method"}) for options in (one, other))
    return left == right and one.resolved_method == other.resolved_method


def _encode(
    captioner: Captioner, records: Sequence[CaptionRecord], on_progress: Progress
) -> tuple[list[CaptionRecord], list[Tensor], list[Skipped]]:
    """Records that can be read, embeddings (B, D) or (B, N, D) in batches, and the other photos."""
    readable: list[CaptionRecord] = []
    batches: list[Tensor] = []
    skipped: list[Skipped] = []
    for start in range(0, len(records), BATCH):
        batch, images, unread = open_photos(records[start : start + BATCH])
        if images:
            batches.append(captioner.embed(images, batch_size=BATCH))
        readable += batch
        skipped += unread
        on_progress("photos", min(start + BATCH, len(records)), len(records))
    return readable, batches, skipped


def _captions(captioner: Captioner, embeddings: Tensor, options: DecodeOptions) -> list[str]:
    """The best caption of each embedding."""
    return [found[0].text for found in captioner.captions_of_embeddings(embeddings, options)]


def _references(records: Sequence[CaptionRecord]) -> CiderReferences:
    """The records' captions, tokenized once."""
    tokens = iter(tokenize_lines([text for record in records for text in record.captions]))
    return CiderReferences(
        {record.image_id: [next(tokens) for _ in record.captions] for record in records}
    )
