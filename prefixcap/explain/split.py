"""What the prefixes of a split say, in numbers, so that models can be compared."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prefixcap import atomic
from prefixcap.captioner import Caption, Captioner, model_class
from prefixcap.config import parse
from prefixcap.datasets.annotations import read_json
from prefixcap.datasets.records import CaptionRecord
from prefixcap.embeddings import EmbeddingStore
from prefixcap.encoder import StatedEncoder
from prefixcap.errors import InputError
from prefixcap.evaluate import open_photos, weights_of
from prefixcap.explain.numbers import Readability, Sharing, Words, readability, sharing
from prefixcap.explain.prefix import prefix_as_words
from prefixcap.explain.slots import slot_effects
from prefixcap.images import Skipped
from prefixcap.model import ClipCap
from prefixcap.model_files import open_model
from prefixcap.recipe import Recipe, expand
from prefixcap.report.prefix import WORDS_FILE
from prefixcap.split_source import RECIPE_FILE, run_of

BATCH = 64  # images at a time
NEAREST = 3  # tokens of each slot
LISTED = 50  # images whose words are written down for reports

Batches = Iterator[tuple[Sequence[CaptionRecord], Tensor]]


@dataclass(frozen=True)
class Source:
    """A model, and the embeddings of its run where they are stored."""

    captioner: Captioner
    store: EmbeddingStore | None


@dataclass(frozen=True)
class SplitExplanation:
    """The prefixes of a split.

    Attributes:
        records: the images that could be read, in order.
        captions: the model's, by its own decoding options.
        words: nearest tokens of each image and slot.
        sharing: what the prefixes have in common.
        readability: whether the nearest tokens speak of the image.
        log_prob: mean change of the caption's log-probability, in nats, without each slot.
        skipped: images that could not be read.
    """

    records: Sequence[CaptionRecord]
    captions: Sequence[Caption]
    words: Words
    sharing: Sharing
    readability: Readability
    log_prob: list[float]
    skipped: Sequence[Skipped]


def open_source(name: str, device: str | None = None) -> Source:
    """A ClipCap in float32, with its run's store where that is there.

    Of a run whose recipe only states its encoder, the stored embeddings are all that there is.

    Raises:
        InputError: no such model, or an LSTM, which has no prefix.
    """
    weights, run = weights_of(name), run_of(name)
    if model_class(open_model(weights).config) is not ClipCap:
        raise InputError(
            f"{name}: an LSTM captioner has no prefix to read; explain its photos instead: "
            "prefixcap explain PHOTOS --model MODEL"
        )
    recipe = None
    if run is not None:
        recipe = parse(Recipe, read_json(run / RECIPE_FILE), str(run / RECIPE_FILE))
    stated = recipe is not None and recipe.encoder.stated_dim
    captioner = Captioner.from_pretrained(
        weights,
        device=device,
        dtype=torch.float32,
        encoder=StatedEncoder(recipe.encoder) if stated else None,
    )
    folder = expand(recipe.store) if recipe is not None and recipe.store else None
    there = folder is not None and (folder / "index.json").is_file()
    if stated and not there:
        raise InputError(
            f"{folder}: not there, and the weights of the run's encoder are not at hand. Build the "
            "store: prefixcap embed RECIPE"
        )
    return Source(captioner, EmbeddingStore(folder) if there else None)


def explain_split(
    source: Source,
    records: Sequence[CaptionRecord],
    on_progress: Callable[[int], None] | None = None,
) -> SplitExplanation:
    """What the prefixes of the records' images say.

    Embeddings come from the store where it has all of the images, else from the photos.

    Args:
        source: of a ClipCap.
        records: the images; references are used where they have captions.
        on_progress: told after each batch how many images are captioned.

    Raises:
        InputError: fewer than two images can be read.
    """
    captioner = source.captioner
    kept: list[CaptionRecord] = []
    captions: list[Caption] = []
    words: list[Any] = []
    prefixes: list[Tensor] = []
    skipped: list[Skipped] = []
    for part, embeddings in _batches(source, records, skipped):
        kept += part
        captions += [found[0] for found in captioner.captions_of_embeddings(embeddings)]
        words += prefix_as_words(captioner.model, embeddings, NEAREST)
        with torch.inference_mode():
            prefixes.append(captioner.model.prefix(embeddings))  # (B, P, D)
        if on_progress:
            on_progress(len(kept))
    if len(kept) < 2:
        raise InputError(f"{len(kept)} images can be read; what prefixes share takes two or more")
    joined = torch.cat(prefixes)  # (M, P, D)
    effects = slot_effects(captioner, joined, captions, rewrite=False)
    changes = torch.tensor([[one.log_prob for one in slots] for slots in effects])  # (M, P)
    return SplitExplanation(
        kept,
        captions,
        words,
        sharing(joined),
        readability(
            words,
            [caption.text for caption in captions],
            [record.captions for record in kept],
            captioner.model.lm.get_input_embeddings().weight,
        ),
        changes.mean(0).tolist(),
        skipped,
    )


def numbers(found: SplitExplanation) -> dict[str, Any]:
    """The numbers for JSON: means over slots, then each slot's own."""
    slots = {**asdict(found.sharing), "log_prob": found.log_prob}
    return {
        "images": len(found.records),
        "prefix_length": len(found.log_prob),
        "skipped": len(found.skipped),
        "sharing": {name: sum(values) / len(values) for name, values in slots.items()},
        "readability": asdict(found.readability),
        "slots": slots,
    }


def write_words(found: SplitExplanation, folder: Path) -> Path:
    """Path of the file by which `prefixcap report` shows prefix words; `folder` is made if need be.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = [
        {
            "image_id": record.image_id,
            "caption": caption.text,
            "slots": [
                [{"text": one.text, "similarity": one.similarity} for one in slot] for slot in slots
            ],
        }
        for record, caption, slots in list(
            zip(found.records, found.captions, found.words, strict=True)
        )[:LISTED]
    ]
    content = {"images": images, "shared": found.readability.same_word, "numbers": numbers(found)}
    atomic.write_json(folder / WORDS_FILE, content)
    return folder / WORDS_FILE


def _batches(source: Source, records: Sequence[CaptionRecord], skipped: list[Skipped]) -> Batches:
    """Records and their embeddings (B, D) or (B, N, D); what cannot be read goes to `skipped`."""
    captioner = source.captioner
    rows = stored_rows(source.store, records) if source.store else None
    for start in range(0, len(records), BATCH):
        part = records[start : start + BATCH]
        if rows is not None:
            stored = torch.from_numpy(source.store.rows(rows[start : start + BATCH])).float()
            yield part, stored.to(captioner.device)
            continue
        part, images, unread = open_photos(part)
        skipped += unread
        if part:
            yield part, captioner.embed(images, batch_size=BATCH)


def stored_rows(store: EmbeddingStore, records: Sequence[CaptionRecord]) -> list[int] | None:
    """Rows of the records' whole photos, whichever source of the recipe they are of.

    None where one of them is not stored. A recipe's store puts the source before each id.
    """
    boxes = store.boxes()
    row_of = {
        image_id.partition("/")[2]: row
        for row, image_id in enumerate(store.ids)
        if image_id not in boxes
    }
    rows = [row_of.get(record.image_id) for record in records]
    return None if None in rows else [row for row in rows if row is not None]
