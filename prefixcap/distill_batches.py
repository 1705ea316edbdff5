"""Batches of a distillation: looks at photos, the teacher's grid, the words of their captions."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prefixcap.batches import PixelSource, epoch_order, steps_per_epoch, stored_rows
from prefixcap.datasets.records import CaptionRecord
from prefixcap.distill import DistillBatch
from prefixcap.embeddings import EmbeddingStore
from prefixcap.processes import ALONE, Processes
from prefixcap.recipe import TrainConfig
from prefixcap.views import draw_view, inside, stored_view


@dataclass(frozen=True)
class LookOptions:
    """What is done with looks, beside `recipe.ViewConfig`.

    Attributes:
        words: most frequent words of captions that are targets.
        paste: share of looks into which a part of another one is pasted.
        side: cells across the student's grid, along which it is cut out.
    """

    words: int
    paste: float = 0.0
    side: int = 1


class DistillBatches:
    """Views of photos with the teacher's grid, for `distill.Distiller`."""

    def __init__(
        self,
        records: Sequence[CaptionRecord],
        source: PixelSource,
        store: EmbeddingStore,
        config: TrainConfig,
        options: LookOptions,
        processes: Processes = ALONE,
    ) -> None:
        """Batches of the records whose photos can be read and are stored."""
        self.source, self.store, self.processes = source, store, processes
        self.options, words = options, options.words
        self.images_per_step, self.seed = config.images_per_step, config.seed
        self.looks = source.views
        if source.views.stored:
            self.looks = source.views.model_copy(
                update={"min_area": source.views.within, "max_aspect": 1.0}
            )
        is_stored = store.rows_of([record.image_id for record in records]) >= 0
        usable = np.flatnonzero(source.photos.readable & is_stored)
        self.rows = usable
        self.ids = [records[row].image_id for row in usable]
        self.store_rows = stored_rows(store, self.ids, source.views)
        self.vocabulary = frequent_words((c for r in records for c in r.captions), words)
        self.words = word_targets([records[row].captions for row in usable], self.vocabulary, words)
        self.captioned = np.array([bool(records[row].captions) for row in usable])
        self.steps_per_epoch = steps_per_epoch(len(usable), config)

    def batch(self, step: int) -> DistillBatch:
        """The batch of one step, the same at every call."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = epoch_order(len(self.rows), self.seed, epoch)
        chosen = order[place * self.images_per_step : (place + 1) * self.images_per_step]
        generator = np.random.default_rng((self.seed, 1, step))
        numbers = generator.integers(self.store_rows.shape[1], size=len(chosen))
        outer = [
            stored_view(self.source.views, self.ids[row], number)
            for row, number in zip(chosen, numbers, strict=True)
        ]
        views = [draw_view(self.looks, generator) for _ in chosen]  # of what the teacher saw
        seen = [inside(*pair) for pair in zip(outer, views, strict=True)]
        pasted = self._pasted(len(chosen), generator) if self.options.paste else None
        mine = self.processes.share(len(chosen))
        chosen, numbers, views, seen = chosen[mine], numbers[mine], views[mine], seen[mine]
        grid = torch.from_numpy(self.store.rows(self.store_rows[chosen, numbers]))  # (B, N, D)
        side = int(grid.shape[1] ** 0.5)
        return DistillBatch(
            pixels=self.source.pixels(self.rows[chosen], seen),
            grid=grid.view(len(chosen), side, side, -1),  # (B, G, G, D)
            boxes=torch.tensor([view.box for view in views], dtype=torch.float32),
            mirrored=torch.tensor([view.mirrored for view in views]),
            words=torch.from_numpy(self.words[chosen].astype(np.float32)),
            captioned=torch.from_numpy(self.captioned[chosen]),
            pasted=None if pasted is None else pasted[mine],
        )

    def _pasted(self, count: int, generator: np.random.Generator) -> Tensor:
        """Cells (B, N) bool in which a view shows another: a rectangle of at most half the area."""
        side = self.options.side
        masks = np.zeros((count, side, side), bool)
        for mask in masks:
            height, width = generator.integers(1, side, 2, endpoint=True)
            top = generator.integers(side - height, endpoint=True)
            left = generator.integers(side - width, endpoint=True)
            if generator.random() < self.options.paste and 2 * height * width <= side**2:
                mask[top : top + height, left : left + width] = True
        return torch.from_numpy(masks.reshape(count, -1))


def frequent_words(captions: Iterator[str], count: int) -> dict[str, int]:
    """The `count` most frequent words of the captions, most frequent first, with their places."""
    counter: Counter[str] = Counter()
    for caption in captions:
        counter.update(set(_words(caption)))
    ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return {word: place for place, (word, _) in enumerate(ranked[:count])}


def word_targets(
    captions: Sequence[Sequence[str]], vocabulary: dict[str, int], count: int
) -> np.ndarray:
    """Share (images, count) float16 of an image's captions that hold each word."""
    targets = np.zeros((len(captions), count), np.float16)
    for row, texts in enumerate(captions):
        for text in texts:
            for word in set(_words(text)) & vocabulary.keys():
                targets[row, vocabulary[word]] += 1 / len(texts)
    return targets


def _words(caption: str) -> list[str]:
    """Lower-case words of letters."""
    return re.findall(r"[a-z]+", caption.lower())
