"""The embedding store: each image encoded once, in memory-mapped shards, one encoder's only."""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from prefixcap.atomic import replacing, write_json
from prefixcap.config import PreprocessConfig
from prefixcap.datasets.stored_photos import photo_source
from prefixcap.encoder import ImageEncoder, StatedEncoder
from prefixcap.errors import InputError
from prefixcap.images import Skipped, UnreadableImage, open_rgb
from prefixcap.preprocess import pixels
from prefixcap.views import cut

FORMAT_VERSION = 1
SHARD_ROWS = 2048  # images in a shard, the unreadable ones included
BATCHES_AHEAD = 3  # decoded while one is encoded


@dataclass(frozen=True)
class StoreItem:
    """An image to be encoded: its id in the store, unique, its file, and the part that is meant.

    `box` (left, top, right, bottom) in shares of the upright photo; None is the whole of it.
    """

    image_id: str
    path: Path
    box: tuple[float, float, float, float] | None = None


class EmbeddingStore:
    """Read side of a store: rows are (D,) or (N, D) float16, found by image id."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        try:
            self.index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
            version = self.index["format_version"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{folder}: is not an embedding store ({error}). Build it: prefixcap embed RECIPE"
            ) from error
        if version != FORMAT_VERSION:
            raise InputError(f"{folder}: format {version}, this release reads {FORMAT_VERSION}")
        self.starts = np.cumsum([0, *_shard_sizes(self.index)])  # first row of each shard
        self.shards: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.index["rows"]

    @cached_property
    def ids(self) -> list[str]:
        """Image ids in row order; read on first use, since there may be millions."""
        ids: list[str] = []
        for number in range(len(self.starts) - 1):
            ids += json.loads(_ids_path(self.folder, number).read_text(encoding="utf-8"))
        return ids

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each image id."""
        return {image_id: row for row, image_id in enumerate(self.ids)}

    def rows(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Embeddings (B, D) or (B, N, D) float16 of the given rows, in their order.

        Raises:
            IndexError: there is no such row.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if rows.min() < 0 or rows.max() >= len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a store of {len(self)}")
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        places = rows - self.starts[numbers]
        pairs = zip(numbers.tolist(), places.tolist(), strict=True)
        return np.stack([self._shard(number)[place] for number, place in pairs])

    def check_encoder(self, encoder: ImageEncoder) -> None:
        """Refuse an encoder other than the one whose vectors are stored.

        Raises:
            InputError: the fingerprints differ.
        """
        if not self._is_of(encoder):
            raise InputError(
                f"{self.folder}: holds vectors of encoder {self.index['encoder']} "
                f"(fingerprint {self.index['fingerprint'][:12]}), asked for one of fingerprint "
                f"{encoder.fingerprint()[:12]}. Build a store for it in another folder: "
                f"prefixcap embed RECIPE"
            )

    def _is_of(self, encoder: ImageEncoder) -> bool:
        """Whether the vectors are this encoder's; of a stated one, whether all that is said fits.

        A store that was made with the weights serves where only the encoder's name is known.
        """
        if self.index["fingerprint"] == encoder.fingerprint():
            return True
        if not isinstance(encoder, StatedEncoder):
            return False
        stored = self.index["encoder"]
        same = all(stored.get(name) == value for name, value in encoder.facts().items())
        return same and self.rows([0]).shape[1:] == (encoder.embedding_dim,)

    def _shard(self, number: int) -> np.ndarray:
        """Memory map of one shard, opened on first use."""
        if number not in self.shards:
            self.shards[number] = np.load(_shard_path(self.folder, number), mmap_mode="r")
        return self.shards[number]


def build_store(
    folder: Path,
    encoder: ImageEncoder,
    items: Sequence[StoreItem],
    *,
    batch_size: int = 32,
    on_progress: Callable[[int], None] | None = None,
) -> list[Skipped]:
    """Encode every item into `folder`, continuing after a kill; the unreadable images come back.

    Each image is opened once, by a thread, while the encoder works on earlier ones. A shard of
    `SHARD_ROWS` items is written whole or not at all, so that a second call goes on with the first
    missing shard. Unreadable images have no row; the shard's `skipped` file says why.

    Raises:
        InputError: the folder holds vectors of another encoder or of other images, or the encoder
            gives a vector that is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left_out = begin_store(folder, encoder, items)
    items = [item for item in items if item.image_id not in left_out]
    starts = range(0, len(items), SHARD_ROWS)
    for number, start in enumerate(starts):
        if _ids_path(folder, number).exists():
            continue
        part = items[start : start + SHARD_ROWS]
        report = _from(start, on_progress)
        write_shard(folder, number, *_encoded(encoder, part, batch_size, report))
    return [Skipped(*pair) for pair in left_out.items()] + finish_store(
        folder, len(starts), encoder
    )


def finish_store(folder: Path, shards: int, encoder: ImageEncoder) -> list[Skipped]:
    """Write the index, which makes a store of the shards; their unreadable images come back."""
    sizes, skipped = [], []
    for number in range(shards):
        sizes.append(len(json.loads(_ids_path(folder, number).read_text(encoding="utf-8"))))
        skipped += _read_skipped(folder, number)
    write_json(
        folder / "index.json",
        {
            "format_version": FORMAT_VERSION,
            "rows": sum(sizes),
            "shard_sizes": sizes,
            "fingerprint": encoder.fingerprint(),
            "encoder": encoder.config.model_dump(mode="json"),
        },
    )
    return skipped


def begin_store(folder: Path, encoder: ImageEncoder, items: Sequence[StoreItem]) -> dict[str, str]:
    """Keep in the folder what it is built for, so that a resume agrees.

    Returns the reason by id of the images that an earlier release found unreadable before it began;
    its shards hold the others only.
    """
    path = folder / "plan.json"
    plan = {
        "fingerprint": encoder.fingerprint(),
        "ids": [item.image_id for item in items],
        "boxes": {item.image_id: list(item.box) for item in items if item.box},
    }
    if not path.exists():
        write_json(path, plan)
        return {}
    kept = json.loads(path.read_text(encoding="utf-8"))
    kept.setdefault("boxes", {})  # an earlier release knew whole images only
    meanings = {"fingerprint": "another encoder", "ids": "other images", "boxes": "other crops"}
    for key, meaning in meanings.items():
        if kept[key] != plan[key]:
            raise InputError(f"{folder}: was begun for {meaning}. Choose another folder.")
    return kept.get("skipped", {})


def write_shard(
    folder: Path, number: int, rows: dict[str, np.ndarray], skipped: dict[str, str]
) -> None:
    """Write one shard: vectors by image id; the ids come last and say that it is whole."""
    for image_id, row in rows.items():
        if not np.isfinite(row).all():
            raise InputError(
                f"{folder}: the encoder's vector of {image_id} is not finite in float16; check the "
                "encoder's weights and its preprocessing"
            )
    with replacing(_shard_path(folder, number)) as file, file.open("wb") as out:
        np.save(out, np.stack(list(rows.values())) if rows else np.zeros(0, np.float16))
    write_json(_skipped_path(folder, number), skipped)
    write_json(_ids_path(folder, number), list(rows))


def _encoded(
    encoder: ImageEncoder,
    items: Sequence[StoreItem],
    batch_size: int,
    report: Callable[[int], None],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Float16 embeddings of the readable items by id, and reasons of the others by id."""
    rows: dict[str, np.ndarray] = {}
    skipped: dict[str, str] = {}
    decoded = _decoded(items, encoder.config.preprocess, BATCHES_AHEAD * batch_size)
    numbered = iter(enumerate(zip(items, decoded, strict=True), start=1))
    while batch := list(islice(numbered, batch_size)):
        opened = {item.image_id: found for _, (item, found) in batch}
        skipped |= {key: found for key, found in opened.items() if isinstance(found, str)}
        images = {key: found for key, found in opened.items() if not isinstance(found, str)}
        if images:
            rows |= zip(images, _vectors(encoder, list(images.values())), strict=True)
        report(batch[-1][0])
    return rows, skipped


@torch.inference_mode()
def _vectors(encoder: ImageEncoder, images: list[np.ndarray]) -> np.ndarray:
    """Embeddings (B, D) or (B, N, D) float16 of pixels (3, S, S) each."""
    batch = torch.from_numpy(np.stack(images)).to(encoder.device)  # (B, 3, S, S)
    with np.errstate(over="ignore"):  # too large for float16 becomes infinite, and is refused
        return encoder(batch).float().cpu().numpy().astype(np.float16)


def _decoded(
    items: Sequence[StoreItem], preprocess: PreprocessConfig, ahead: int
) -> Iterator[np.ndarray | str]:
    """Pixels (3, S, S) of each item in order, or why there are none; `ahead` decoded in advance."""
    waiting: deque[Future[np.ndarray | str]] = deque()
    coming = iter(items)
    with ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 1))) as pool:
        for item in islice(coming, ahead):
            waiting.append(pool.submit(_open, item, preprocess))
        while waiting:
            found = waiting.popleft().result()
            waiting += [pool.submit(_open, item, preprocess) for item in islice(coming, 1)]
            yield found


def _open(item: StoreItem, preprocess: PreprocessConfig) -> np.ndarray | str:
    """Pixels (3, S, S) of an image, or why there are none."""
    try:
        photo = open_rgb(photo_source(item.path))
        return pixels(photo if item.box is None else cut(photo, item.box), preprocess)
    except UnreadableImage as error:
        return str(error)


def _from(start: int, on_progress: Callable[[int], None] | None) -> Callable[[int], None]:
    """Progress of a shard as progress of all items."""
    return lambda done: on_progress(start + done) if on_progress else None


def _shard_sizes(index: dict) -> list[int]:
    """Rows of each shard; an earlier release wrote all but the last of one size."""
    if "shard_sizes" in index:
        return index["shard_sizes"]
    size, rows = index["shard_rows"], index["rows"]
    return [min(size, rows - start) for start in range(0, rows, size)]


def _read_skipped(folder: Path, number: int) -> list[Skipped]:
    """Unreadable images of one shard; an earlier release left none in its shards."""
    path = _skipped_path(folder, number)
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return [Skipped(*pair) for pair in found.items()]


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"embeddings-{number:05d}.npy"


def _ids_path(folder: Path, number: int) -> Path:
    return folder / f"ids-{number:05d}.json"


def _skipped_path(folder: Path, number: int) -> Path:
    return folder / f"skipped-{number:05d}.json"
