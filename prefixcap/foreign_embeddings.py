"""Stores made of embeddings that clip-retrieval or the original code wrote."""

import fcntl
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prefixcap.datasets.annotations import read_text
from prefixcap.datasets.parquet import read_columns
from prefixcap.datasets.stored_photos import photo_source
from prefixcap.embedding_pickle import read_embedding_pickle
from prefixcap.embeddings import (
    LOCK_FILE,
    StoreItem,
    begin_store,
    finish_store,
    plan_store,
)
from prefixcap.encoder import ImageEncoder, StatedEncoder
from prefixcap.errors import InputError
from prefixcap.images import Skipped, UnreadableImage, open_rgb
from prefixcap.pickle_audit import audit
from prefixcap.store_shards import files_of_shard, read_shard, write_shard

COMPARED = 8  # photos that are encoded again, to see whose vectors these are
LEAST_COSINE = 0.98  # float16, bfloat16 and another decoder stay above; other weights far below
UNIT_TOLERANCE = 1e-2  # of the norms of normalised float16 vectors
NAMED_PARTS = 3  # folders and file name by which a photo is found under another root


@dataclass(frozen=True)
class ForeignEmbeddings:
    """Vectors (N, D) of any float type, in parts, and a name for each."""

    parts: list[np.ndarray]
    names: list[str]

    def row(self, number: int) -> np.ndarray:
        """Vector (D,) float32 of one row."""
        for part in self.parts:
            if number < len(part):
                return np.array(part[number], dtype=np.float32)
            number -= len(part)
        raise IndexError(number)


def import_store(
    folder: Path, source: Path, encoder: ImageEncoder, items: Sequence[StoreItem]
) -> list[Skipped]:
    """Make a store of `source`'s vectors of the items; the items that it lacks come back.

    An item is found by its path, by its id, by the end of its path, or by its name without suffix,
    where no other item has the same. Nothing is kept before all vectors are seen to be right.

    Raises:
        InputError: vectors of another width, another normalisation or another encoder, or that are
            not finite; two rows of one name that differ; nothing of the items is there; the folder
            has other vectors, or another process at work.
    """
    found = read_foreign(source)
    rows = _rows_of(found, source, items)
    _check_encoder(source, encoder, _spread(found, rows, items))
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        plan = plan_store(folder, encoder, items)
        starts = range(0, len(plan.items), plan.shard_rows)
        shards = [plan.items[start : start + plan.shard_rows] for start in starts]
        for number, part in enumerate(shards):
            vectors = {i.image_id: found.row(rows[i.image_id]) for i in part if i.image_id in rows}
            _check_vectors(source, vectors, normalised=encoder.config.normalize)
            _check_same(folder, read_shard(folder, number), _stored(vectors))
        begin_store(folder, encoder, items)
        for number, part in enumerate(shards):
            ids = [item.image_id for item in part]
            missing = [image_id for image_id in ids if image_id not in rows]
            kept = list(read_shard(folder, number))  # they stay in their places
            present = dict.fromkeys([*kept, *(one for one in ids if one in rows)])
            vectors = _stored({image_id: found.row(rows[image_id]) for image_id in present})
            lacking = dict.fromkeys(missing, f"{source}: has no vector of it")
            write_shard(folder, number, vectors, lacking, files_of_shard(folder, number))
        return plan.left_out + finish_store(folder, len(shards), encoder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process works on the store inside the block.

    Raises:
        InputError: one does.
    """
    with (folder / LOCK_FILE).open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise InputError(
                f"{folder}: another process is making this store. Wait for it, or choose another "
                "folder: --set store=FOLDER"
            ) from error
        yield


def _stored(vectors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The vectors as a store has them, (D,) float16."""
    return {image_id: vector.astype(np.float16) for image_id, vector in vectors.items()}


def _check_vectors(source: Path, vectors: dict[str, np.ndarray], *, normalised: bool) -> None:
    """Raise for a vector that float16 does not hold, or of another length than 1 if it should be.

    What was `normalised` has length 1.
    """
    for image_id, vector in vectors.items():
        norm = float(np.linalg.norm(vector))
        if not np.abs(vector).max() <= np.finfo(np.float16).max:
            raise InputError(
                f"{source}: the vector of {image_id} is not finite in float16. Make it again, or "
                "leave it out"
            )
        if normalised and abs(norm - 1) > UNIT_TOLERANCE:
            raise InputError(
                f"{source}: the vector of {image_id} has length {norm:.3g}, others 1. Make it "
                "again, or leave it out"
            )


def _check_same(folder: Path, kept: dict[str, np.ndarray], vectors: dict[str, np.ndarray]) -> None:
    """Raise where a shard has other vectors, which would be lost."""
    for image_id, vector in kept.items():
        if image_id not in vectors or not np.array_equal(vector, vectors[image_id]):
            raise InputError(
                f"{folder}: has another vector of {image_id} already. Choose another folder, --set "
                "store=FOLDER, or delete this one"
            )


def read_foreign(source: Path) -> ForeignEmbeddings:
    """Vectors of clip-retrieval's output folder, of one matrix with names, or of a pickle.

    The matrix is the only `.npy` file of a folder (N, D), the names are its only `.txt` file, one a
    line; the pickle is the original code's.

    Raises:
        InputError: it is none of them, or its parts do not fit each other, or captions of the
            pickle point to embeddings of other images.
    """
    if source.is_dir():
        matrices, lists = sorted(source.glob("*.npy")), sorted(source.glob("*.txt"))
        if len(matrices) == len(lists) == 1:
            return _read_matrix(matrices[0], lists[0])
        return _read_clip_retrieval(source)
    pickle = read_embedding_pickle(source)
    mispairings = audit(pickle, str(source)).mispairings  # captions without words do no harm here
    if mispairings:
        raise InputError(f"{source}: {'; '.join(mispairings)}")
    return ForeignEmbeddings([pickle.embeddings.float().numpy()[pickle.rows]], pickle.image_ids)


def _read_matrix(matrix: Path, names: Path) -> ForeignEmbeddings:
    """A matrix (N, D) with a list of N names."""
    vectors = _load_matrix(matrix)
    found = [line.strip() for line in read_text(names).splitlines() if line.strip()]
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != len(found):
        raise InputError(
            f"{matrix}: is {vectors.dtype} of shape {vectors.shape}, expected floats with a row "
            f"for each of the {len(found)} names in {names.name}"
        )
    return ForeignEmbeddings([vectors], found)


def _load_matrix(path: Path) -> np.ndarray:
    """Memory map of a `.npy` file."""
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: is no matrix that numpy can read ({error})") from error


def _read_clip_retrieval(folder: Path) -> ForeignEmbeddings:
    """`img_emb/img_emb_N.npy` with the paths in `metadata/metadata_N.parquet`."""
    files = sorted(folder.glob("img_emb/img_emb_*.npy"), key=_number)
    if not files:
        raise InputError(
            f"{folder}: has no img_emb/img_emb_*.npy; expected what `clip-retrieval inference` "
            "writes, one .npy matrix with one .txt list of names, or a pickle of the original"
        )
    parts, names = [], []
    for file in files:
        table = folder / "metadata" / f"metadata_{file.stem.rpartition('_')[2]}.parquet"
        if not table.is_file():
            raise InputError(f"{table}: not there; without it {file.name} has no names")
        parts.append(_load_matrix(file))
        found = [str(row["image_path"]) for row in read_columns(table, ["image_path"])[1]]
        if len(found) != len(parts[-1]):
            raise InputError(
                f"{table}: names {len(found)} images, {file.name} has {len(parts[-1])}"
            )
        names += found
    return ForeignEmbeddings(parts, names)


def _number(file: Path) -> int:
    """Number at the end of a file's name."""
    return int(re.sub(r"\D", "", file.stem.rpartition("_")[2]) or 0)


def _rows_of(found: ForeignEmbeddings, source: Path, items: Sequence[StoreItem]) -> dict[str, int]:
    """Row of each item that has a vector, by image id.

    Raises:
        InputError: no item has one, or rows of the same name hold different vectors.
    """
    by_name: dict[str, int] = {}
    again: dict[str, list[int]] = {}  # rows after the first of a name
    for row, name in enumerate(found.names):
        for form in {name, *_ends(Path(name))}:
            if by_name.setdefault(form, row) != row:
                again.setdefault(form, []).append(row)
    owners: dict[str, Path] = {}  # of a name that several photos have, none
    for item in items:
        for form in _names(item):
            if owners.setdefault(form, item.path) != item.path:
                owners[form] = Path()
    rows: dict[str, int] = {}
    for item in items:
        own = [form for form in _names(item) if owners[form] == item.path and form in by_name]
        if not own:
            continue
        row = by_name[own[0]]
        first, others = found.row(row), again.get(own[0], [])
        if any(not np.allclose(found.row(other), first, atol=1e-2) for other in others):
            raise InputError(
                f"{source}: has different vectors for {own[0]}, so captions and images are mixed "
                "up. Make the embeddings again: prefixcap embed RECIPE"
            )
        rows[item.image_id] = row
    if not rows:
        raise InputError(f"{source}: names none of the recipe's {len(items)} images")
    return rows


def _names(item: StoreItem) -> list[str]:
    """What an item may be called, the surest first."""
    own_id = item.image_id.partition("/")[2] or item.image_id
    return [str(item.path), own_id, *_ends(item.path), item.path.stem]


def _ends(path: Path) -> list[str]:
    """The last parts of a path, the longest first; the last one is the file's name."""
    return ["/".join(path.parts[-count:]) for count in range(NAMED_PARTS, 0, -1)]


def _spread(
    found: ForeignEmbeddings, rows: dict[str, int], items: Sequence[StoreItem]
) -> list[tuple[StoreItem, np.ndarray]]:
    """A few items and their vectors, evenly spread over the rows that are taken over.

    The first rows alone would not do: where a list or a counter slips, all before that is right.
    """
    present = sorted(
        (item for item in items if item.image_id in rows), key=lambda item: rows[item.image_id]
    )
    places = np.linspace(0, len(present) - 1, min(len(present), COMPARED)).astype(int)
    return [(present[place], found.row(rows[present[place].image_id])) for place in places]


def _check_encoder(
    source: Path, encoder: ImageEncoder, pairs: Sequence[tuple[StoreItem, np.ndarray]]
) -> None:
    """Refuse vectors that this encoder would not give for the same photos.

    Photos that are not there any more are not compared, and none where the encoder's weights are
    not at hand; widths and norms always are.
    """
    shape = pairs[0][1].shape
    if encoder.config.output != "pooled" or shape != (encoder.embedding_dim,):
        raise InputError(
            f"{source}: vectors of shape {shape}, the recipe's encoder gives "
            f"{encoder.embedding_dim} ({encoder.config.output}). Name the encoder that "
            "made them in the recipe"
        )
    _check_vectors(source, {item.image_id: v for item, v in pairs}, normalised=False)
    norms = [float(np.linalg.norm(vector)) for _, vector in pairs]
    unit = sum(abs(norm - 1) < UNIT_TOLERANCE for norm in norms) > len(norms) / 2
    if unit != encoder.config.normalize:
        raise InputError(
            f"{source}: vectors are {'' if unit else 'not '}of length 1; set encoder.normalize = "
            f"{str(unit).lower()} in the recipe"
        )
    if isinstance(encoder, StatedEncoder):
        return
    for item, vector in pairs:
        try:
            expected = encoder.encode([open_rgb(photo_source(item.path))])[0].cpu()
        except UnreadableImage:
            continue
        cosine = float(torch.cosine_similarity(expected, torch.from_numpy(vector), dim=0))
        if cosine < LEAST_COSINE:
            raise InputError(
                f"{source}: the recipe's encoder gives another vector for {item.image_id} (cosine "
                f"{cosine:.3f}). Name the encoder that made them in the recipe"
            )
