"""What an embedding map is drawn of: stored vectors with their photos, vectors of texts."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prefixcap.batches import read_dev_sources, read_sources
from prefixcap.config import parse
from prefixcap.datasets.annotations import read_json, read_text
from prefixcap.datasets.records import CaptionRecord
from prefixcap.embeddings import EmbeddingStore
from prefixcap.errors import InputError
from prefixcap.foreign_embeddings import read_foreign
from prefixcap.model import ClipCap
from prefixcap.recipe import Recipe, expand, load_recipe
from prefixcap.split_source import RECIPE_FILE


@dataclass(frozen=True)
class StoredImages:
    """Vectors (M, D) float32 of images, and the record of each where it is known."""

    name: str
    vectors: np.ndarray
    ids: list[str]
    records: list[CaptionRecord | None]


def stored_images(
    source: Path, known: Sequence[CaptionRecord], most: int, split: str | None = None
) -> StoredImages:
    """Evenly spaced images of a recipe's or run's store, of a store, or of a matrix with names.

    Patch tokens are averaged, stored crops are left out.

    Args:
        source: a recipe's file, a run's folder, or a folder of vectors.
        known: records to find photos and captions in, for folders of vectors.
        most: images, at least 4.
        split: only the recipe's "data", "dev" or "test" photos; None: all.

    Raises:
        InputError: it is none of these, its vectors cannot be read, or fewer than four are there.
    """
    if most < 4:
        raise InputError(f"{most} images: a map takes 4 or more")
    recipe = _recipe(source)
    folder = source
    if recipe is not None:
        if not recipe.store:
            raise InputError(f"{source}: has no `store`; give a recipe with one, or a store")
        known, folder = _records(recipe, split), expand(recipe.store)
        if not (folder / "index.json").is_file() and recipe.store_from:
            folder = expand(recipe.store_from)
    ids, read = _vectors(folder)
    by_name = _by_name(known)
    found = [(row, by_name.get(one) or by_name.get(_plain(one))) for row, one in ids.items()]
    if split is not None:
        found = [pair for pair in found if pair[1] is not None]
    if len(found) < 4:
        raise InputError(f"{folder}: {len(found)} images of what was asked; a map takes 4 or more")
    places = np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int)
    rows = [found[place][0] for place in places]
    vectors = read(rows)  # (M, D) or (M, N, D)
    if vectors.ndim == 3:
        vectors = vectors.mean(1)
    name = recipe.name if recipe else folder.name
    return StoredImages(
        name, vectors, [ids[row] for row in rows], [found[place][1] for place in places]
    )


def _recipe(source: Path) -> Recipe | None:
    """The recipe in a file or a run's folder, None for anything else.

    Raises:
        InputError: there is nothing at the path.
    """
    if not source.exists():
        raise InputError(f"{source}: not there; give a recipe, a run or a store")
    if source.is_file() and source.suffix == ".toml":
        return load_recipe(source)
    if (source / RECIPE_FILE).is_file():
        return parse(Recipe, read_json(source / RECIPE_FILE), str(source / RECIPE_FILE))
    return None


def _records(recipe: Recipe, split: str | None) -> list[CaptionRecord]:
    """Records of the recipe's photos, with the ids of its store."""
    parts = {"data": [read_sources(recipe.data)]} if split in (None, "data") else {}
    if split in (None, "dev"):
        parts["dev"] = read_dev_sources(recipe.dev)
    if split in (None, "test"):
        parts["test"] = read_dev_sources(recipe.test, "test")
    return [record for lists in parts.values() for records in lists for record in records]


def _vectors(folder: Path) -> tuple[dict[int, str], Callable[[Sequence[int]], np.ndarray]]:
    """Id of each row of whole photos, and what reads rows as (M, D) or (M, N, D) float32."""
    if (folder / "index.json").is_file():
        store = EmbeddingStore(folder)
        crops = store.boxes()
        ids = {row: one for row, one in enumerate(store.ids) if one not in crops}
        return ids, lambda rows: store.rows(rows).astype(np.float32)
    foreign = read_foreign(folder)
    return dict(enumerate(foreign.names)), lambda rows: np.stack([foreign.row(r) for r in rows])


def _by_name(records: Sequence[CaptionRecord]) -> dict[str, CaptionRecord]:
    """Records by file name, its stem, and id, the last of which goes first."""
    found: dict[str, CaptionRecord] = {}
    for key in (lambda r: r.path.stem, lambda r: r.path.name, lambda r: r.image_id):
        found |= {key(record): record for record in records}
    return found


def _plain(image_id: str) -> str:
    """A row's name without the source or folder before it."""
    return image_id.rpartition("/")[2]


def caption_vectors(model: ClipCap, captions: Sequence[str]) -> np.ndarray:
    """Mean word embedding (B, D) float32 of each caption's tokens, 0 where it has none."""
    words = model.lm.get_input_embeddings().weight.detach().float().cpu()  # (V, D)
    found = torch.zeros(len(captions), words.shape[1])
    for place, ids in enumerate(model.tokenizer.encode_batch(list(captions))):
        if ids:
            found[place] = words[ids].mean(0)
    return found.numpy()


def named_texts(matrix: Path, names: Path, width: int) -> tuple[list[str], np.ndarray]:
    """Texts and their vectors (K, D) float32, of the same space as images of so many dimensions.

    Args:
        matrix: .npy, (K, D) floats.
        names: a text a line, a JSON list, or a JSON object of which one list has K texts.
        width: D of the images.

    Raises:
        InputError: the matrix is no such thing, or not as many names are there.
    """
    try:
        vectors = np.load(matrix)
    except (OSError, ValueError) as error:
        raise InputError(f"{matrix}: is no matrix that numpy can read ({error})") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or vectors.shape[1] != width:
        raise InputError(
            f"{matrix}: is {vectors.dtype} of shape {vectors.shape}, expected floats of width "
            f"{width}, in the space of the images"
        )
    lists = _name_lists(names)
    texts = next((one for one in lists if len(one) == len(vectors)), None)
    if texts is None:
        found = ", ".join(str(len(one)) for one in lists) or "none"
        raise InputError(f"{names}: expected {len(vectors)} texts for {matrix.name}, has {found}")
    return texts, vectors.astype(np.float32)


def _name_lists(path: Path) -> list[list[str]]:
    """All lists of names in a file."""
    text = read_text(path)
    if path.suffix != ".json":
        return [[line.strip() for line in text.splitlines() if line.strip()]]
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: is not readable JSON ({error})") from error
    lists = list(content.values()) if isinstance(content, dict) else [content]
    return [[str(name) for name in one] for one in lists if isinstance(one, list)]
