"""A model's captions of a split, and their scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from prefixcap.caption_results import listed
from prefixcap.captioner import Captioner
from prefixcap.config import DecodeOptions
from prefixcap.datasets.records import CaptionRecord
from prefixcap.datasets.stored_photos import photo_source
from prefixcap.errors import InputError
from prefixcap.images import Skipped, UnreadableImage, open_rgb
from prefixcap.metrics import CiderReferences, Scores, score
from prefixcap.metrics.ptb import tokenize_lines

BATCH = 64  # photos at a time
CANDIDATES = 30  # captions that a constant one is chosen from


@dataclass(frozen=True)
class Evaluation:
    """Captions by image id, what could not be read, and the scores of the rest."""

    captions: dict[str, str]
    skipped: list[Skipped]
    scores: Scores


def evaluate_captioner(
    captioner: Captioner,
    records: Sequence[CaptionRecord],
    options: DecodeOptions | None,
    metrics: Sequence[str],
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Captions of the records' photos, scored against the records' own captions.

    Raises:
        InputError: no photo with reference captions can be read.
    """
    captions, skipped = write_captions(captioner, records, options, on_progress)
    return Evaluation(captions, skipped, score_captions(captions, records, metrics))


def write_captions(
    captioner: Captioner,
    records: Sequence[CaptionRecord],
    options: DecodeOptions | None,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[dict[str, str], list[Skipped]]:
    """Caption of each photo by image id, and the photos that cannot be read.

    Args:
        captioner: the model.
        records: the photos.
        options: None are those that the model was saved with.
        on_progress: told after each batch how many photos are done.
    """
    captions: dict[str, str] = {}
    skipped: list[Skipped] = []
    for start in range(0, len(records), BATCH):
        batch, images, unread = open_photos(records[start : start + BATCH])
        skipped += unread
        written = captioner.caption(images, options, batch_size=BATCH)
        captions |= {r.image_id: c.text for r, c in zip(batch, written, strict=True)}
        if on_progress:
            on_progress(min(start + BATCH, len(records)))
    return captions, skipped


def open_photos(
    records: Sequence[CaptionRecord],
) -> tuple[list[CaptionRecord], list[Image.Image], list[Skipped]]:
    """Records whose photo can be read, those photos, and the others with the reason."""
    readable: list[CaptionRecord] = []
    images: list[Image.Image] = []
    skipped: list[Skipped] = []
    for record in records:
        try:
            images.append(open_rgb(photo_source(record.path)))
            readable.append(record)
        except UnreadableImage as error:
            skipped.append(Skipped(record.image_id, str(error)))
    return readable, images, skipped


def without_references(records: Sequence[CaptionRecord], *, allowed: bool) -> list[str]:
    """Image ids of records without captions; [] too where all are without, as in test splits.

    Raises:
        InputError: some are without and that is not allowed.
    """
    bare = [record.image_id for record in records if not record.captions]
    if len(bare) == len(records):
        return []
    if bare and not allowed:
        raise InputError(
            f"{len(bare)} of {len(records)} images have no reference captions: {listed(bare)}. "
            "Score the others with --allow-missing"
        )
    return bare


def weights_of(name: str) -> str:
    """What `Captioner.from_pretrained` takes for `name`: of a training run, its best weights.

    Raises:
        InputError: a run that has no weights yet.
    """
    folder = Path(name)
    if not (folder / "recipe.json").is_file():
        return name
    for weights in (folder / "best", folder / "model"):
        if (weights / "config.json").is_file():
            return str(weights)
    raise InputError(
        f"{name}: a training run without weights of a captioner, neither best nor model is there. "
        "Let it train until it is first validated, or give a model"
    )


def score_captions(
    captions: dict[str, str], records: Sequence[CaptionRecord], metrics: Sequence[str]
) -> Scores:
    """Scores of the captions against the records' own, over the images that have both.

    Raises:
        InputError: there is no such image.
    """
    references = {r.image_id: r.captions for r in records if r.captions and r.image_id in captions}
    if not references:
        raise InputError("no photo of the split can be read and has captions to compare with")
    return score({image_id: captions[image_id] for image_id in references}, references, metrics)


def constant_caption(records: Sequence[CaptionRecord]) -> str:
    """The training caption that agrees best with all others: the floor of any captioner.

    Of the `CANDIDATES` most frequent captions, the one whose CIDEr-D as the caption of every
    record is highest.
    """
    counts: dict[str, int] = {}
    for record in records:
        for caption in record.captions:
            counts[caption] = counts.get(caption, 0) + 1
    frequent = sorted(counts, key=lambda caption: (-counts[caption], caption))[:CANDIDATES]
    captioned = [record for record in records if record.captions]
    tokens = iter(tokenize_lines([text for record in captioned for text in record.captions]))
    references = {r.image_id: [next(tokens) for _ in r.captions] for r in captioned}
    prepared, ids = CiderReferences(references), list(references)
    ciders = [
        prepared.score(ids, [caption] * len(ids)).mean() for caption in tokenize_lines(frequent)
    ]
    return frequent[int(np.argmax(ciders))]
