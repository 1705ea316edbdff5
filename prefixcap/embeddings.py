"""The embedding store: each image encoded once, in memory-mapped shards, one encoder's only."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from prefixcap.atomic import replacing, write_json
from prefixcap.datasets.stored_photos import photo_source
from prefixcap.encoder import ImageEncoder
from prefixcap.errors import InputError
from prefixcap.images import Skipped, UnreadableImage, open_rgb

FORMAT_VERSION = 1
SHARD_ROWS = 2048


@dataclass(frozen=True)
class StoreItem:
    """An image to be encoded: its id in the store, unique, and its file."""

    image_id: str
    path: Path


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
        self.shard_rows: int = self.index["shard_rows"]
        self.shards: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.index["rows"]

    @cached_property
    def ids(self) -> list[str]:
        """Image ids in row order; read on first use, since there may be millions."""
        ids: list[str] = []
        for number in range(-(-len(self) // self.shard_rows)):
            ids += json.loads(_ids_path(self.folder, number).read_text(encoding="utf-8"))
        return ids

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each image id."""
        return {image_id: row for row, image_id in enumerate(self.ids)}

    def rows(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Embeddings (B, D) or (B, N, D) float16 of the given rows, in their order."""
        return np.stack(
            [self._shard(row // self.shard_rows)[row % self.shard_rows] for row in rows]
        )

    def check_encoder(self, encoder: ImageEncoder) -> None:
        """Refuse an encoder other than the one whose vectors are stored.

        Raises:
            InputError: the fingerprints differ.
        """
        if self.index["fingerprint"] != encoder.fingerprint():
            raise InputError(
                f"{self.folder}: holds vectors of encoder {self.index['encoder']} "
                f"(fingerprint {self.index['fingerprint'][:12]}), asked for one of fingerprint "
                f"{encoder.fingerprint()[:12]}. Build a store for it in another folder: "
                f"prefixcap embed RECIPE"
            )

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

    A shard of `SHARD_ROWS` images is written whole or not at all, so that a second call goes on
    with the first missing shard. Rows of unreadable images are left out.

    Raises:
        InputError: the folder holds vectors of another encoder or of other images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    readable, skipped = _plan(folder, encoder, items)
    for number, start in enumerate(range(0, len(readable), SHARD_ROWS)):
        part = readable[start : start + SHARD_ROWS]
        if not _ids_path(folder, number).exists():
            vectors = np.concatenate(list(_encoded(encoder, part, batch_size, start, on_progress)))
            with replacing(_shard_path(folder, number)) as file, file.open("wb") as out:
                np.save(out, vectors)
            write_json(_ids_path(folder, number), [item.image_id for item in part])
    write_json(
        folder / "index.json",
        {
            "format_version": FORMAT_VERSION,
            "rows": len(readable),
            "shard_rows": SHARD_ROWS,
            "fingerprint": encoder.fingerprint(),
            "encoder": encoder.config.model_dump(mode="json"),
        },
    )
    return skipped


def _plan(
    folder: Path, encoder: ImageEncoder, items: Sequence[StoreItem]
) -> tuple[list[StoreItem], list[Skipped]]:
    """Readable items in their order, and the rest; kept in the folder so that a resume agrees."""
    path = folder / "plan.json"
    plan = {"fingerprint": encoder.fingerprint(), "ids": [item.image_id for item in items]}
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        for key, meaning in (("fingerprint", "another encoder"), ("ids", "other images")):
            if kept[key] != plan[key]:
                raise InputError(f"{folder}: was begun for {meaning}. Choose another folder.")
        reasons = kept["skipped"]
    else:
        reasons = {item.image_id: reason for item in items if (reason := _unreadable(item.path))}
        write_json(path, {**plan, "skipped": reasons})
    readable = [item for item in items if item.image_id not in reasons]
    return readable, [Skipped(image_id, reason) for image_id, reason in reasons.items()]


def _unreadable(path: Path) -> str | None:
    """Why a photo cannot be read, or None."""
    try:
        open_rgb(photo_source(path))
    except UnreadableImage as error:
        return str(error)
    return None


def _encoded(
    encoder: ImageEncoder,
    items: Sequence[StoreItem],
    batch_size: int,
    done: int,
    on_progress: Callable[[int], None] | None,
) -> Iterator[np.ndarray]:
    """Float16 embeddings of the items, a batch at a time."""
    for batch in _batches(items, batch_size):
        images: list[Image.Image] = [open_rgb(photo_source(item.path)) for item in batch]
        yield encoder.encode(images).float().cpu().numpy().astype(np.float16)
        done += len(batch)
        if on_progress:
            on_progress(done)


def _batches(items: Sequence[StoreItem], size: int) -> Iterable[Sequence[StoreItem]]:
    """Consecutive parts of `size` items."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"embeddings-{number:05d}.npy"


def _ids_path(folder: Path, number: int) -> Path:
    return folder / f"ids-{number:05d}.json"
