"""A model's captions of a split, and their scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from prefixcap.config import DecodeOptions
from prefixcap.datasets.records import CaptionRecord
from prefixcap.decoding import decode
from prefixcap.errors import InputError
from prefixcap.images import Skipped, UnreadableImage, open_rgb
from prefixcap.metrics import Scores, score
from prefixcap.model import ClipCap
from prefixcap.preprocess import pixels
from prefixcap.stopping import stop_ids

BATCH = 64


@dataclass(frozen=True)
class Evaluation:
    """Captions by image id, what could not be read, and the scores of the rest."""

    captions: dict[str, str]
    skipped: list[Skipped]
    scores: Scores


def evaluate_model(
    model: ClipCap,
    records: Sequence[CaptionRecord],
    options: DecodeOptions,
    metrics: Sequence[str],
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Captions of the records' photos by `model`, scored against the records' captions.

    Raises:
        InputError: no photo with reference captions can be read.
    """
    captions: dict[str, str] = {}
    skipped: list[Skipped] = []
    for start in range(0, len(records), BATCH):
        batch, arrays = [], []
        for record in records[start : start + BATCH]:
            try:
                arrays.append(pixels(open_rgb(record.path), model.encoder.config.preprocess))
                batch.append(record)
            except UnreadableImage as error:
                skipped.append(Skipped(record.image_id, str(error)))
        if batch:
            texts = caption_pixels(model, np.stack(arrays), options)
            captions |= {r.image_id: text for r, text in zip(batch, texts, strict=True)}
        if on_progress:
            on_progress(start + len(batch))
    references = {r.image_id: r.captions for r in records if r.captions and r.image_id in captions}
    if not references:
        raise InputError("no photo of the split can be read and has captions to compare with")
    scored = {image_id: captions[image_id] for image_id in references}
    return Evaluation(captions, skipped, score(scored, references, metrics))


@torch.inference_mode()
def caption_pixels(model: ClipCap, values: np.ndarray, options: DecodeOptions) -> list[str]:
    """Best caption of each image of `values` (B, 3, S, S) float32."""
    inputs = torch.from_numpy(values).contiguous(memory_format=torch.channels_last)
    embeddings = model.encoder(inputs)
    found = decode(model, embeddings, options, stop_ids=stop_ids(model.tokenizer, options))
    return [model.tokenizer.decode(best[0].ids) for best in found]
