"""Records to training batches: every step's batch follows from the seed and the step alone."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from prefixcap.chosen_records import chosen
from prefixcap.config import PreprocessConfig
from prefixcap.datasets import read
from prefixcap.datasets.records import CaptionRecord, refuse_shared_ids
from prefixcap.embeddings import EmbeddingStore
from prefixcap.errors import InputError
from prefixcap.images import find_photos
from prefixcap.model import CaptionBatch
from prefixcap.processes import ALONE, Processes
from prefixcap.recipe import SourceConfig, TrainConfig, ViewConfig, expand
from prefixcap.tokenizer import IGNORED
from prefixcap.views import PhotoArray, View, draw_view, stored_id, stored_view

BatchT = TypeVar("BatchT", covariant=True)
ALL = slice(None)
WHOLE = ViewConfig()  # whole photos only


class BatchSource(Protocol[BatchT]):
    """Batches by step, so that a run resumes anywhere."""

    steps_per_epoch: int

    def batch(self, step: int) -> BatchT:
        """This process's share of the batch of one step, the same at every call."""


def read_sources(sources: Sequence[SourceConfig]) -> list[CaptionRecord]:
    """Records of all sources in order; ids are prefixed by the number and format of the source.

    Raises:
        InputError: a source is missing, of another format, or without records.
    """
    parts = [read_source(source, str(number)) for number, source in enumerate(sources)]
    records = [record for part in parts for record in part]
    if not records:
        raise InputError("the recipe's [[data]] holds no photo; give at least one source with some")
    return records


def read_dev_sources(
    sources: Sequence[SourceConfig], part: str = "dev"
) -> list[list[CaptionRecord]]:
    """Records of each dev (or test) source, with ids that differ from those of any other part."""
    return [read_source(source, f"{part}-{number}") for number, source in enumerate(sources)]


def read_source(source: SourceConfig, label: str) -> list[CaptionRecord]:
    """Records of one source; their ids begin with `label` and its format.

    Raises:
        InputError: the source is missing, of another format, or has two images of one id.
    """
    path = expand(source.path)
    if source.format == "photos":
        photos = find_photos([str(path)])
        found = [CaptionRecord(photo.key, photo.path, (), "train") for photo in photos]
    else:
        images = expand(source.images) if source.images else None
        found = read(source.format, path, source.split, images)
    refuse_shared_ids(found, source.path, across_splits=True)
    prefix = f"{label}-{source.format}/"
    return [
        CaptionRecord(prefix + record.image_id, record.path, record.captions, record.split)
        for record in chosen(found, source)
    ]


def published_id(record: CaptionRecord) -> str:
    """Id of a recipe's record in its own data set, as `read_source` found it."""
    return record.image_id.partition("/")[2]


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Permutation (count,) of one epoch."""
    return np.random.default_rng((seed, epoch)).permutation(count)


@dataclass(frozen=True)
class CaptionStep:
    """Captions of one step, and what their images are known by.

    `pixels` (B, 3, S, S) float32 where the encoder runs in the loop, else None and the captions'
    `embeddings` are filled in.
    """

    pixels: Tensor | None
    captions: CaptionBatch


class ImageSource(Protocol):
    """Where a step's images come from: pixels, a store, or nothing at all."""

    def images(
        self, indices: np.ndarray, generator: np.random.Generator, mine: slice = ALL
    ) -> tuple[Tensor | None, Tensor]:
        """Pixels (B, 3, S, S) or None, and embeddings (B, ...), of the given records.

        Only of those in `mine`, with the random views that they have among all of them.
        """


class PixelSource:
    """Views of photos in memory; the encoder is part of the step."""

    def __init__(self, photos: PhotoArray, views: ViewConfig, preprocess: PreprocessConfig) -> None:
        self.photos, self.views, self.preprocess = photos, views, preprocess

    def images(
        self, indices: np.ndarray, generator: np.random.Generator, mine: slice = ALL
    ) -> tuple[Tensor | None, Tensor]:
        """Pixels (B, 3, S, S) of one random view of each photo."""
        views = [draw_view(self.views, generator) for _ in indices]
        return self.pixels(indices[mine], views[mine]), torch.empty(0)

    def pixels(self, indices: np.ndarray, views: Sequence[View]) -> Tensor:
        """Pixels (B, 3, S, S) float32 of one view of each photo."""
        shown = [
            self.photos.view(row, view, self.preprocess)
            for row, view in zip(indices, views, strict=True)
        ]
        return channels_last(np.stack(shown))


class StoreSource:
    """Stored embeddings of the records, whole photos and stored crops; one of them at a time."""

    def __init__(
        self, store: EmbeddingStore, records: Sequence[CaptionRecord], views: ViewConfig = WHOLE
    ) -> None:
        self.store = store
        self.ids = [record.image_id for record in records]
        self.view_rows = stored_rows(store, self.ids, views)  # (M, 1 + views.stored)
        self.rows = self.view_rows[:, 0]

    def leave_out(self, rows: np.ndarray) -> None:
        """Count these records (M,) bool as not stored too."""
        self.view_rows[rows] = -1

    def digest(self) -> str:
        """Hash of what the store holds of the records and their crops; others do not matter.

        So a run goes on where the store has got rows of other images, such as a dev photo that
        could not be read before.
        """
        numbers = range(self.view_rows.shape[1])
        there = np.flatnonzero(self.rows >= 0)
        return self.store.digest([stored_id(self.ids[row], n) for row in there for n in numbers])

    def images(
        self, indices: np.ndarray, generator: np.random.Generator, mine: slice = ALL
    ) -> tuple[Tensor | None, Tensor]:
        """Embeddings (B, D) or (B, N, D) float32 of one view of each image."""
        rows = self.rows[indices]
        if self.view_rows.shape[1] > 1:
            rows = self.view_rows[
                indices, generator.integers(self.view_rows.shape[1], size=len(indices))
            ]
        return None, torch.from_numpy(self.store.rows(rows[mine])).float()


def stored_rows(store: EmbeddingStore, ids: Sequence[str], views: ViewConfig) -> np.ndarray:
    """Rows (M, 1 + views.stored) int64 of images and their crops; -1 where one is not stored.

    Raises:
        InputError: an image is stored, but not all of its crops, or others.
    """
    numbers = range(1 + views.stored)
    found = [store.rows_of([stored_id(image_id, number) for image_id in ids]) for number in numbers]
    rows = np.stack(found, axis=1)  # (M, 1 + views.stored)
    cut_off = np.flatnonzero((rows[:, 0] >= 0) & (rows < 0).any(1))
    if len(cut_off):
        raise InputError(
            f"{store.folder}: {ids[cut_off[0]]} is stored with fewer than views.stored = "
            f"{views.stored} crops; build the store for this recipe in another folder: prefixcap "
            "embed RECIPE --set store=FOLDER"
        )
    if views.stored:
        _check_boxes(store, [ids[row] for row in np.flatnonzero(rows[:, 0] >= 0)], views)
    return rows


def _check_boxes(store: EmbeddingStore, ids: Sequence[str], views: ViewConfig) -> None:
    """Raise where a stored crop is not the one that the settings mean."""
    boxes = store.boxes()
    for image_id in ids:
        for number in range(1, 1 + views.stored):
            box = boxes.get(stored_id(image_id, number))
            if box is None or tuple(box) != stored_view(views, image_id, number).box:
                raise InputError(
                    f"{store.folder}: its crops of {image_id} were cut by other settings than "
                    f"views.min_area = {views.min_area} and views.max_aspect = {views.max_aspect}; "
                    "put those back, or build another store: prefixcap embed RECIPE --set "
                    "store=FOLDER"
                )


class BlankSource:
    """Zeros in place of embeddings: captions without images, for the language model alone."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def images(
        self, indices: np.ndarray, generator: np.random.Generator, mine: slice = ALL
    ) -> tuple[Tensor | None, Tensor]:
        """Embeddings (B, ...) of zeros."""
        return None, torch.zeros(len(indices[mine]), *self.shape)


class CaptionBatches:
    """Images with their captions, image-major, for `ClipCap.loss`.

    A step holds whole images, or with `shuffle_captions` as many single captions as whole images
    have on average, drawn from all; captions of one image that meet there share its prefix.
    """

    def __init__(
        self,
        tokens: Sequence[Sequence[Sequence[int]]],
        usable: np.ndarray,
        source: ImageSource,
        config: TrainConfig,
        processes: Processes = ALONE,
    ) -> None:
        """Batches of the records `usable`, rows of `tokens` (one entry an image, its captions)."""
        self.tokens, self.source, self.config = tokens, source, config
        self.processes = processes
        self.rows = usable
        self.steps_per_epoch = steps_per_epoch(len(usable), config)
        self.singles = np.array(  # (M, 2) row and place of every caption
            [(row, place) for row in usable for place in range(len(tokens[row]))]
            if config.shuffle_captions
            else []
        )

    def batch(self, step: int) -> CaptionStep:
        """The images and captions of one step, the same at every call."""
        generator = np.random.default_rng((self.config.seed, 1, step))
        choose = self._single_captions if self.config.shuffle_captions else self._whole_images
        chosen, captions = choose(*divmod(step, self.steps_per_epoch))
        mine = self.processes.share(len(chosen))
        pixels, embeddings = self.source.images(chosen, generator, mine)
        ids, image_rows = padded([self._some(image, generator) for image in captions][mine])
        return CaptionStep(pixels, CaptionBatch(embeddings, ids, image_rows))

    def _whole_images(
        self, epoch: int, place: int
    ) -> tuple[np.ndarray, list[Sequence[Sequence[int]]]]:
        """Rows (B,) of a step's images, and all captions of each."""
        size = self.config.images_per_step
        order = epoch_order(len(self.rows), self.config.seed, epoch)
        chosen = self.rows[order[place * size : (place + 1) * size]]
        return chosen, [self.tokens[row] for row in chosen]

    def _single_captions(
        self, epoch: int, place: int
    ) -> tuple[np.ndarray, list[Sequence[Sequence[int]]]]:
        """Rows (B,) of the images of a step's single captions, and those captions of each."""
        size = len(self.singles) // self.steps_per_epoch
        order = epoch_order(len(self.singles), self.config.seed, epoch)
        drawn = self.singles[np.sort(order[place * size : (place + 1) * size])]  # (size, 2)
        chosen = np.unique(drawn[:, 0])
        captions = [
            [self.tokens[row][number] for number in drawn[drawn[:, 0] == row, 1]] for row in chosen
        ]
        return chosen, captions

    def _some(
        self, captions: Sequence[Sequence[int]], generator: np.random.Generator
    ) -> Sequence[Sequence[int]]:
        """An image's captions: at most `captions_per_image`, less those that are dropped."""
        count = self.config.captions_per_image
        if 0 < count < len(captions):
            picked = generator.choice(len(captions), count, replace=False)
            captions = [captions[index] for index in picked]
        if not self.config.caption_dropout:
            return captions
        stays = generator.random(len(captions)) >= self.config.caption_dropout
        stays[generator.integers(len(captions))] = True
        return [ids for ids, kept in zip(captions, stays, strict=True) if kept]


def steps_per_epoch(images: int, config: TrainConfig) -> int:
    """Whole batches in one epoch of `images`.

    Raises:
        InputError: there is not one.
    """
    steps = images // config.images_per_step
    if not steps:
        raise InputError(
            f"{images} images to train on, train.images_per_step is {config.images_per_step}; "
            "lower it or give more data"
        )
    return steps


def padded(captions: Sequence[Sequence[Sequence[int]]]) -> tuple[Tensor, Tensor]:
    """Ids (M, T) int64 of all images' captions, padded with IGNORED, and image rows (M,)."""
    flat = [ids for image in captions for ids in image]
    longest = max(len(ids) for ids in flat)
    ids = torch.tensor([list(ids) + [IGNORED] * (longest - len(ids)) for ids in flat])
    return ids, torch.tensor([row for row, image in enumerate(captions) for _ in image])


def prefetched(make: Callable[[int], BatchT], first: int, last: int) -> Iterator[BatchT]:
    """`make` of steps first..last-1, the next two made while one is trained on."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, step) for step in range(first, min(first + 2, last))]
        for step in range(first, last):
            ready = waiting.pop(0).result()
            if step + 2 < last:
                waiting.append(pool.submit(make, step + 2))
            yield ready


def channels_last(pixels: np.ndarray) -> Tensor:
    """Pixels (B, 3, S, S) in the memory order in which convolutions are fastest."""
    return torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)
