"""How a captioner is judged while it is trained: its loss and its captions on the dev sources."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prefixcap.batches import BlankSource, StoreSource, padded, published_id
from prefixcap.board import Sample
from prefixcap.caption_batch import CaptionBatch
from prefixcap.caption_results import write_results
from prefixcap.captioner import Captioner
from prefixcap.checkpoint import checkpoints
from prefixcap.config import DecodeOptions
from prefixcap.datasets.records import CaptionRecord
from prefixcap.datasets.stored_photos import photo_source
from prefixcap.embeddings import EmbeddingStore
from prefixcap.errors import InputError
from prefixcap.evaluate import open_photos, score_captions
from prefixcap.images import open_rgb
from prefixcap.recipe import Recipe, expand
from prefixcap.run_folder import LOG_FILE, RunFolder

DEV_BATCH = 64  # images whose captions are written at a time
METRICS = ("cider", "bleu")
SAMPLES, SAMPLE_PX = 4, 256  # photos on the board, and their longer side
CAPTIONS_FOLDER = "dev_captions"  # in a run's folder: what was written at each validation

Batches = Iterator[tuple[Sequence[CaptionRecord], Tensor]]


class DevSplit:
    """The dev sources of a recipe, judged by all processes of a run together.

    The captions of each validation are in `dev_captions/step-N.json` of the run's folder, under the
    photos' published ids, or in a file for each source where there are several.

    Embeddings are the stored ones of a source whose photos are in the recipe's store, else its
    photos are opened. In the stage "language" there are none, so that no captions are written.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: RunFolder,
        parts: Sequence[Sequence[CaptionRecord]],
        token_ids: Callable[[CaptionRecord], list[list[int]]],
        note: Callable[[str], None] | None = None,
    ) -> None:
        """`parts` are the records of each source, `token_ids` those of a record's captions.

        `note` is told, once, of photos that cannot be read or are not stored.

        Raises:
            InputError: a source has nothing to judge by.
        """
        self.recipe, self.run, self.token_ids, self.note = recipe, run, token_ids, note
        self.store = EmbeddingStore(expand(recipe.store)) if recipe.store else None
        self.parts = parts
        self.unread: dict[str, str] = {}  # why photos are not judged by, by image id
        self._check()
        if run.processes.is_main:
            forget_later_captions(run.path)

    def scores(self, captioner: Captioner, step: int) -> dict[str, float]:
        """`dev_loss` in nats a token, scores of each source, and by which one the best is kept.

        "score" is the mean CIDEr-D of the sources, or minus the loss (`train.best_by`).
        """
        writes = self.recipe.stage != "language"
        sums, values, samples = [0.0, 0.0], {}, []
        for number, (source, part) in enumerate(zip(self.recipe.dev, self.parts, strict=True)):
            records = stored_records(part, self.store) or part
            captions, loss, count = self._judged(captioner, records, writes)
            sums = [sums[0] + loss, sums[1] + count]
            if writes:
                corpus = score_captions(captions, records, METRICS).corpus
                self._keep_captions(captions, records, step, number)
                values |= {f"{source.format} {name}": value for name, value in corpus.items()}
                samples += [(r, captions[r.image_id]) for r in records if r.image_id in captions]
        self._tell_unread()
        if self.run.board is not None:
            self.run.board.samples(step, [_sample(*pair) for pair in samples[:SAMPLES]])
        loss = sums[0] / max(sums[1], 1)
        ciders = [value for name, value in values.items() if name.endswith("CIDEr")]
        by_cider = writes and self.recipe.train.best_by == "cider"
        return {"dev_loss": loss, **values, "score": float(np.mean(ciders)) if by_cider else -loss}

    def _keep_captions(
        self,
        captions: Mapping[str, str],
        records: Sequence[CaptionRecord],
        step: int,
        number: int,
    ) -> None:
        """Write the captions of one source into the run's folder; only the main process does."""
        if not self.run.processes.is_main:
            return
        end = f"-{number}-{self.recipe.dev[number].format}" if len(self.parts) > 1 else ""
        path = self.run.path / CAPTIONS_FOLDER / f"step-{step:08d}{end}.json"
        path.parent.mkdir(exist_ok=True)
        written = [record for record in records if record.image_id in captions]
        write_results(path, {published_id(r): captions[r.image_id] for r in written})

    def _check(self) -> None:
        """Raise for a source without a photo that can be read and has captions."""
        for source, part in zip(self.recipe.dev, self.parts, strict=True):
            stored = stored_records(part, self.store)
            judged = [record for record in stored or part if record.captions]
            opens = self.recipe.stage != "language" and not stored
            if stored:
                self._miss(part, stored)
            if not any(not opens or open_photos([record])[0] for record in judged):
                raise InputError(
                    f"{source.path}: no photo of this [[dev]] can be read and has captions, so "
                    "nothing could be judged by it; name another, or leave [[dev]] out"
                )

    def _miss(self, part: Sequence[CaptionRecord], stored: Sequence[CaptionRecord]) -> None:
        """Note the photos of a source that the store does not have, though it has others of it."""
        there = {record.image_id for record in stored}
        self.unread |= {
            record.image_id: f"{record.image_id} is not in {self.store.folder}"
            for record in part
            if record.image_id not in there
        }

    def _tell_unread(self) -> None:
        """Log photos that are not judged by, of all processes, and say so; once."""
        for found in self.run.processes.gathered(self.unread):
            self.unread |= found
        if not self.unread or not self.note:
            return
        for image_id, reason in self.unread.items():
            self.run.log(skipped=image_id, reason=reason)
        first = next(iter(self.unread.values()))
        self.note(
            f"{len(self.unread)} photos of [[dev]] are not judged by, such as {first}; "
            f"{self.run.path / LOG_FILE} names them all"
        )
        self.note = None

    def _judged(
        self, captioner: Captioner, records: Sequence[CaptionRecord], writes: bool
    ) -> tuple[dict[str, str], float, float]:
        """Captions by image id, summed cross-entropy of the records' own, and their tokens."""
        processes = self.run.processes
        captions: dict[str, str] = {}
        total, count = 0.0, 0
        for part, embeddings in self._batches(captioner, records[processes.share(len(records))]):
            if writes:
                captions |= _written(captioner, part, embeddings, self.recipe.decoding)
            loss, tokens = self._loss(captioner, part, embeddings)
            total, count = total + loss, count + tokens
        gathered = {key: text for own in processes.gathered(captions) for key, text in own.items()}
        return gathered, *processes.sums(total, count)

    @torch.inference_mode()
    def _loss(
        self, captioner: Captioner, records: Sequence[CaptionRecord], embeddings: Tensor
    ) -> tuple[float, int]:
        """Summed cross-entropy of the records' captions, in nats, and number of their tokens."""
        device, tokens = captioner.device, [self.token_ids(record) for record in records]
        if not any(tokens):
            return 0.0, 0
        ids, rows = padded(tokens)
        batch = CaptionBatch(embeddings.to(device), ids.to(device), rows.to(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=self.run.precision == "bf16"):
            loss, count = captioner.model.loss(batch)
        return float(loss), count

    def _batches(self, captioner: Captioner, records: Sequence[CaptionRecord]) -> Batches:
        """Records and their embeddings (B, D) or (B, N, D), some at a time."""
        if self.recipe.stage != "language" and stored_records(records, self.store):
            yield from stored_batches(records, self.store)
            return
        for start in range(0, len(records), DEV_BATCH):
            part = records[start : start + DEV_BATCH]
            if self.recipe.stage == "language":
                config = captioner.model.config
                sizes = (config.embedding_tokens, config.embedding_dim)
                shape = tuple(size for size in sizes if size is not None)
                yield part, BlankSource(shape).images(np.arange(len(part)), None)[1]
                continue
            part, images, skipped = open_photos(part)
            self.unread |= {photo.key: photo.reason for photo in skipped}
            if part:
                yield part, captioner.embed(images, batch_size=DEV_BATCH)


def forget_later_captions(run: Path) -> None:
    """Remove captions of steps after a run's last checkpoint, which it takes again."""
    kept = checkpoints(run)
    last = kept[-1].name if kept else ""
    for file in (run / CAPTIONS_FOLDER).glob("step-*.json"):
        if file.name[: len("step-00000000")] > last:
            file.unlink()


def stored_records(
    records: Sequence[CaptionRecord], store: EmbeddingStore | None
) -> list[CaptionRecord]:
    """Records whose image is in the store; none without a store."""
    if store is None:
        return []
    rows = store.rows_of([record.image_id for record in records])
    return [record for record, row in zip(records, rows, strict=True) if row >= 0]


def stored_captions(
    captioner: Captioner,
    records: Sequence[CaptionRecord],
    options: DecodeOptions,
    store: EmbeddingStore,
) -> dict[str, str]:
    """Caption of each image by its id, written from stored embeddings."""
    captions: dict[str, str] = {}
    for part, embeddings in stored_batches(records, store):
        captions |= _written(captioner, part, embeddings, options)
    return captions


def stored_batches(records: Sequence[CaptionRecord], store: EmbeddingStore) -> Batches:
    """Records and their stored embeddings (B, D) or (B, N, D), some at a time."""
    source = StoreSource(store, records)
    for start in range(0, len(records), DEV_BATCH):
        part = records[start : start + DEV_BATCH]
        rows = np.arange(start, start + len(part))
        yield part, source.images(rows, np.random.default_rng(0))[1]


def _written(
    captioner: Captioner,
    records: Sequence[CaptionRecord],
    embeddings: Tensor,
    options: DecodeOptions,
) -> dict[str, str]:
    """Caption of each record by its image id."""
    found = captioner.captions_of_embeddings(embeddings.to(captioner.device), options)
    return {r.image_id: best[0].text for r, best in zip(records, found, strict=True)}


def _sample(record: CaptionRecord, caption: str) -> Sample:
    """The record's photo, small, with its caption and the first of its own."""
    photo = open_rgb(photo_source(record.path))
    photo.thumbnail((SAMPLE_PX, SAMPLE_PX))
    return Sample(np.asarray(photo), caption, record.captions[0] if record.captions else "")
