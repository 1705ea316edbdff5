"""Stores made of embeddings that clip-retrieval or the original code wrote."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prefixcap.datasets.annotations import read_text
from prefixcap.datasets.parquet import read_columns
from prefixcap.datasets.stored_photos import photo_source
from prefixcap.embedding_pickle import read_embedding_pickle
from prefixcap.embeddings import SHARD_ROWS, StoreItem, begin_store, finish_store, write_shard
from prefixcap.encoder import ImageEncoder, StatedEncoder
from prefixcap.errors import InputError
from prefixcap.images import Skipped, UnreadableImage, open_rgb

COMPARED = 4  # photos that are encoded again, to see whose vectors these are
LEAST_COSINE = 0.98  # float16, bfloat16 and another decoder stay above; other weights far below
UNIT_TOLERANCE = 1e-2  # of the norms of normalised float16 vectors


@dataclass(frozen=True)
class ForeignEmbeddings:
    """Vectors (N, D) of any float type, in parts, and a name for each."""

    parts: list[np.ndarray]
    names: list[str]

    def row(self, number: int) -> np.ndarray:
        """Vector (D,) float32 of one row."""
        for part in self.parts:
            if number < len(part):
                return np.asarray(part[number], dtype=np.float32)
            number -= len(part)
        raise IndexError(number)


def import_store(
    folder: Path, source: Path, encoder: ImageEncoder, items: Sequence[StoreItem]
) -> list[Skipped]:
    """Make a store of `source`'s vectors of the items; the items that it lacks come back.

    An item is found by its path, file name, or that without suffix, or by its id.

    Raises:
        InputError: vectors of another width, another normalisation or another encoder; two rows of
            one name that differ; or nothing of the items is there.
    """
    found = read_foreign(source)
    rows = _rows_of(found, source, items)
    present = [item for item in items if item.image_id in rows]
    _check_encoder(
        source, encoder, [(item, found.row(rows[item.image_id])) for item in present[:COMPARED]]
    )
    folder.mkdir(parents=True, exist_ok=True)
    begin_store(folder, encoder, items)
    starts = range(0, len(items), SHARD_ROWS)
    for number, start in enumerate(starts):
        part = items[start : start + SHARD_ROWS]
        ids = [item.image_id for item in part]
        vectors = {i: found.row(rows[i]).astype(np.float16) for i in ids if i in rows}
        missing = {i: f"{source}: has no vector of it" for i in ids if i not in rows}
        write_shard(folder, number, vectors, missing)
    return finish_store(folder, len(starts), encoder)


def read_foreign(source: Path) -> ForeignEmbeddings:
    """Vectors of clip-retrieval's output folder, of one matrix with names, or of a pickle.

    The matrix is the only `.npy` file of a folder (N, D), the names are its only `.txt` file, one a
    line; the pickle is the original code's.

    Raises:
        InputError: it is none of them, or its parts do not fit each other.
    """
    if source.is_dir():
        matrices, lists = sorted(source.glob("*.npy")), sorted(source.glob("*.txt"))
        if len(matrices) == len(lists) == 1:
            return _read_matrix(matrices[0], lists[0])
        return _read_clip_retrieval(source)
    pickle = read_embedding_pickle(source)
    count = len(pickle.embeddings)
    outside = pickle.rows[(pickle.rows < 0) | (pickle.rows >= count)]
    if len(outside):
        raise InputError(
            f"{source}: a caption points to row {outside[0]} of {count}; make the embeddings again "
            "with prefixcap embed RECIPE"
        )
    return ForeignEmbeddings([pickle.embeddings.float().numpy()[pickle.rows]], pickle.image_ids)


def _read_matrix(matrix: Path, names: Path) -> ForeignEmbeddings:
    """A matrix (N, D) with a list of N names."""
    try:
        vectors = np.load(matrix, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{matrix}: is no matrix that numpy can read ({error})") from error
    found = [line.strip() for line in read_text(names).splitlines() if line.strip()]
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != len(found):
        raise InputError(
            f"{matrix}: is {vectors.dtype} of shape {vectors.shape}, expected floats with a row "
            f"for each of the {len(found)} names in {names.name}"
        )
    return ForeignEmbeddings([vectors], found)


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
        parts.append(np.load(file, mmap_mode="r"))
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
    by_name: dict[str, list[int]] = {}
    for row, name in enumerate(found.names):
        for form in {name, Path(name).name}:
            by_name.setdefault(form, []).append(row)
    rows: dict[str, int] = {}
    for item in items:
        own_id = item.image_id.partition("/")[2] or item.image_id
        forms = (str(item.path), own_id, item.path.name, item.path.stem)
        matching = next((by_name[form] for form in forms if form in by_name), None)
        if matching is None:
            continue
        first = found.row(matching[0])
        if any(not np.allclose(found.row(row), first, atol=1e-2) for row in matching[1:]):
            raise InputError(
                f"{source}: has different vectors for {own_id}, so captions and images are mixed "
                "up. Make the embeddings again: prefixcap embed RECIPE"
            )
        rows[item.image_id] = matching[0]
    if not rows:
        raise InputError(f"{source}: names none of the recipe's {len(items)} images")
    return rows


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
    norms = [float(np.linalg.norm(vector)) for _, vector in pairs]
    unit = all(abs(norm - 1) < UNIT_TOLERANCE for norm in norms)
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
