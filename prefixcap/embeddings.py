"""The embedding store: each image encoded once, in memory-mapped shards, one encoder's only."""

import fcntl
import hashlib
import json
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prefixcap.atomic import write_json
from prefixcap.encoder import ImageEncoder, StatedEncoder
from prefixcap.errors import InputError
from prefixcap.images import Skipped
from prefixcap.store_shards import ids_path, open_vectors, read_ids, read_skipped, vectors_path

FORMAT_VERSION = 1
SHARD_ROWS = 2048  # images in a shard, the unreadable ones included
PLAN_FILE, PLAN_LOCK_FILE = "plan.json", ".plan.lock"
LOCK_FILE = ".lock"  # a byte for each shard, locked by the process that makes it
DIGEST_ROWS = 2048  # rows that a digest looks at, at most
DIGEST_NUMBERS = 512  # of each of these rows: 1 KB, so that 3.3 million rows cost 2 MB
INFINITE = np.uint16(0x7C00)  # the exponent bits of float16; all of them set: infinite or NaN


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
            self.starts = np.cumsum([0, *_shard_sizes(self.index)])  # first row of each shard
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{folder}: is not an embedding store ({error}). Build it: prefixcap embed RECIPE"
            ) from error
        if version != FORMAT_VERSION:
            raise InputError(f"{folder}: format {version}, this release reads {FORMAT_VERSION}")
        self.shards: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.index["rows"]

    @cached_property
    def ids(self) -> list[str]:
        """Image ids in row order; read on first use, since there may be millions."""
        return [
            image_id for number in range(len(self.starts) - 1) for image_id in self._ids(number)
        ]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each image id; for a few lookups in a small store, else see `rows_of`."""
        return {image_id: row for row, image_id in enumerate(self.ids)}

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:
        """Rows (M,) int64 of the images of these ids; -1 where one is not stored.

        Ids are compared by their 64-bit hashes: 3.3 million take 65 MB, a fraction of what
        a dict takes, and one lookup in 10^12 takes a missing image for another one.
        """
        hashes, rows = self._rows_by_hash
        if not len(hashes):
            return np.full(len(ids), -1)
        wanted = _hashes(ids)
        places = np.searchsorted(hashes, wanted).clip(max=len(hashes) - 1)
        return np.where(hashes[places] == wanted, rows[places], -1)

    @cached_property
    def _rows_by_hash(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes (N,) int64 of all ids, ascending, and their rows (N,) int32."""
        parts = [_hashes(self._ids(number)) for number in range(len(self.starts) - 1)]
        hashes = np.concatenate([np.zeros(0, np.int64), *parts])
        rows = np.argsort(hashes).astype(np.int32)
        return hashes[rows], rows

    def rows(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Embeddings (B, D) or (B, N, D) float16 of the given rows, in their order.

        Raises:
            IndexError: there is no such row.
            InputError: a vector is not finite; its image is named.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if rows.min() < 0 or rows.max() >= len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a store of {len(self)}")
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        places = rows - self.starts[numbers]
        pairs = zip(numbers.tolist(), places.tolist(), strict=True)
        found = np.stack([self._shard(number)[place] for number, place in pairs])
        broken = (found.view(np.uint16) & INFINITE) == INFINITE  # much faster than isfinite
        if broken.any():
            row = int(np.flatnonzero(broken.reshape(len(rows), -1).any(1))[0])
            self._refuse(int(numbers[row]), int(places[row]))
        return found

    def digest(self, ids: Sequence[str]) -> str:
        """Hash of the encoder, and of the first numbers of a sample of these images' vectors.

        The sample is evenly spread over `ids`, 2,048 of them where there are more. So it sees
        another encoder, vectors that moved or changed in many rows, and any change among so few
        images; it does not see one in a few rows among more, or behind the first 512 numbers of a
        row. It follows from the ids and their vectors alone: rows of other images, more shards, and
        copies of the folder, do not matter.
        """
        count = min(len(ids), DIGEST_ROWS)
        chosen = [ids[place] for place in np.linspace(0, len(ids) - 1, count).astype(int)]
        found = hashlib.blake2b(self.index["fingerprint"].encode(), digest_size=16)
        for image_id, row in zip(chosen, self.rows_of(chosen).tolist(), strict=True):
            found.update(f" {image_id} ".encode(errors="backslashreplace"))
            if row >= 0:
                number = int(np.searchsorted(self.starts, row, side="right")) - 1
                vector = self._shard(number)[row - self.starts[number]]
                found.update(vector.ravel()[:DIGEST_NUMBERS].tobytes())
        return found.hexdigest()

    def _refuse(self, number: int, place: int) -> None:
        """Raise for a row that holds numbers that are none."""
        raise InputError(
            f"{vectors_path(self.folder, number)}: the vector of {self._ids(number)[place]} is not "
            f"finite. Delete {ids_path(self.folder, number).name} beside it and make both again: "
            "prefixcap embed RECIPE"
        )

    def check_encoder(self, encoder: ImageEncoder) -> None:
        """Refuse an encoder other than the one whose vectors are stored.

        Raises:
            InputError: the fingerprints differ.
        """
        if not self._is_of(encoder):
            stored = self.index["encoder"]
            changes = encoder_changes(stored, self.index["fingerprint"], encoder)
            raise InputError(
                f"{self.folder}: holds vectors of encoder {stored['name'] or stored['kind']} that "
                f"this one would not give ({changes}). Build "
                "a store for it in another folder: prefixcap embed RECIPE --set store=FOLDER"
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

    def boxes(self) -> dict[str, list[float]]:
        """Box of each crop in the store by its id, as it was planned."""
        path = self.folder / PLAN_FILE
        return read_plan(path)["boxes"] if path.exists() else {}

    def _ids(self, number: int) -> list[str]:
        """Image ids of one shard in row order."""
        return read_ids(ids_path(self.folder, number), self._size(number))

    def _size(self, number: int) -> int:
        """Rows of one shard, as the index has them."""
        return int(self.starts[number + 1] - self.starts[number])

    def _shard(self, number: int) -> np.ndarray:
        """Memory map of one shard, opened on first use.

        Training reads rows at random, so the system is asked not to read their neighbours too.
        """
        if number not in self.shards:
            shard = open_vectors(vectors_path(self.folder, number), self._size(number))
            if isinstance(shard.base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
                shard.base.madvise(mmap.MADV_RANDOM)
            self.shards[number] = shard.view(np.ndarray)  # indexed several times as fast
        return self.shards[number]


def encoder_changes(stored: dict[str, Any] | None, fingerprint: str, encoder: ImageEncoder) -> str:
    """What differs between the settings and weights of a stored encoder and this one, in words.

    `stored` None: its settings are not known, only its fingerprint.
    """
    asked = encoder.config.model_dump(mode="json")
    changes = [
        f"{key}: is {stored.get(key)!r}, asked for {value!r}"
        for key, value in asked.items()
        if stored is not None and stored.get(key) != value
    ]
    unknown = "other settings or weights" if stored is None else "other weights"
    return (
        f"{'; '.join(changes) or unknown}; fingerprint {fingerprint[:12]}, asked for "
        f"{encoder.fingerprint()[:12]}"
    )


def finish_store(folder: Path, shards: int, encoder: ImageEncoder) -> list[Skipped]:
    """Write the index, which makes a store of the shards; their unreadable images come back.

    More shards that are there are another process's, which goes on with it for more images.
    """
    sizes, skipped = [], []
    while ids_path(folder, shards).exists():
        shards += 1
    for number in range(shards):
        sizes.append(len(read_ids(ids_path(folder, number))))
        skipped += read_skipped(folder, number)
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


@dataclass(frozen=True)
class Plan:
    """What a store was begun for.

    Attributes:
        shard_rows: items in a shard.
        items: in the order of the shards: those it was begun for, then those that came later.
        left_out: images that an earlier release found unreadable before it began; its shards hold
            the others only, and they are not among the items.
    """

    shard_rows: int
    items: Sequence[StoreItem]
    left_out: list[Skipped]


def begin_store(folder: Path, encoder: ImageEncoder, items: Sequence[StoreItem]) -> Plan:
    """Keep in the folder what it is built for, so that all who go on with it agree.

    Items that it was not begun for come behind the others.

    Raises:
        InputError: it was begun for another encoder, for images that are not among the items, or
            for other crops.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder / PLAN_LOCK_FILE):
        content, is_new = _planned(folder, encoder, items)
        if is_new:
            write_json(folder / PLAN_FILE, content)
    return _plan_of(content, items)


def plan_store(folder: Path, encoder: ImageEncoder, items: Sequence[StoreItem]) -> Plan:
    """What `begin_store` would keep; nothing is written.

    Raises:
        InputError: as `begin_store`.
    """
    return _plan_of(_planned(folder, encoder, items)[0], items)


def _planned(
    folder: Path, encoder: ImageEncoder, items: Sequence[StoreItem]
) -> tuple[dict[str, Any], bool]:
    """What the plan of a store is with these items in it, and whether that is not written yet."""
    wanted = {
        "fingerprint": encoder.fingerprint(),
        "encoder": encoder.config.model_dump(mode="json"),
        "shard_rows": SHARD_ROWS,
        "ids": [item.image_id for item in items],
        "boxes": {item.image_id: list(item.box) for item in items if item.box},
    }
    if not (folder / PLAN_FILE).exists():
        return wanted, True
    kept = read_plan(folder / PLAN_FILE)
    _refuse_encoder(folder, kept, encoder)
    _refuse_images(folder, kept, wanted)
    before = set(kept["ids"])
    later = [image_id for image_id in wanted["ids"] if image_id not in before]
    return {**kept, "ids": kept["ids"] + later, "boxes": wanted["boxes"]}, bool(later)


def _plan_of(content: dict[str, Any], items: Sequence[StoreItem]) -> Plan:
    """The items in the order of a written plan."""
    left_out = content.get("skipped", {})
    by_id = {item.image_id: item for item in items}
    ordered = [by_id[image_id] for image_id in content["ids"] if image_id not in left_out]
    return Plan(content["shard_rows"], ordered, [Skipped(*pair) for pair in left_out.items()])


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """One process at a time inside the block; the others wait."""
    with path.open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _refuse_encoder(folder: Path, kept: dict[str, Any], encoder: ImageEncoder) -> None:
    """Raise where a plan is of another encoder; earlier releases kept its settings in the index."""
    if kept["fingerprint"] == encoder.fingerprint():
        return
    with suppress(InputError):
        kept = {"encoder": EmbeddingStore(folder).index.get("encoder"), **kept}
    changes = encoder_changes(kept.get("encoder"), kept["fingerprint"], encoder)
    raise InputError(
        f"{folder}: was begun for another encoder ({changes}). Choose another folder: --set "
        "store=FOLDER"
    )


def _refuse_images(folder: Path, kept: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise where a plan has images that are not wanted, or crops that are others now."""
    there, planned = set(wanted["ids"]), set(kept["ids"])
    lacking = [image_id for image_id in kept["ids"] if image_id not in there]
    boxes = {one: box for one, box in wanted["boxes"].items() if one in planned}
    if lacking:
        found = (
            f"images ({len(kept['ids']):,}, of which the recipe lacks {len(lacking):,}, such as "
            f"{lacking[0]})"
        )
    elif kept["boxes"] != boxes:
        found = "crops"
    else:
        return
    raise InputError(
        f"{folder}: was begun for other {found}. Choose another folder: --set store=FOLDER"
    )


def read_plan(path: Path) -> dict[str, Any]:
    """A store's plan, with what earlier releases did not write.

    Raises:
        InputError: it is damaged.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        kept["fingerprint"], kept["ids"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: is damaged ({error}). Delete its folder and begin again: prefixcap embed "
            "RECIPE"
        ) from error
    return {"boxes": {}, "shard_rows": SHARD_ROWS, **kept}


def _shard_sizes(index: dict) -> list[int]:
    """Rows of each shard; an earlier release wrote all but the last of one size."""
    if "shard_sizes" in index:
        return index["shard_sizes"]
    size, rows = index["shard_rows"], index["rows"]
    return [min(size, rows - start) for start in range(0, rows, size)]


def _hashes(ids: Sequence[str]) -> np.ndarray:
    """Python's hashes (M,) int64 of the ids; others in every process."""
    return np.fromiter(map(hash, ids), np.int64, len(ids))
