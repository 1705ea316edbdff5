"""Stores made of what clip-retrieval and the original wrote; vectors of others are refused."""

import pickle

import numpy as np
import pytest
import torch

from prefixcap.config import EncoderConfig
from prefixcap.embeddings import EmbeddingStore, StoreItem
from prefixcap.encoder import load_encoder
from prefixcap.errors import InputError
from prefixcap.foreign_embeddings import import_store
from prefixcap.store_build import build_store
from tests.tiny_run import save_tiny_teacher, write_photos


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Encoder, items of eight photos, and the vectors (8, 12) that its own store holds."""
    folder = tmp_path_factory.mktemp("world")
    photos = sorted((write_photos(folder / "data") / "images").iterdir())[:8]
    items = [StoreItem(f"0-flickr8k/{photo.name}", photo) for photo in photos]
    name = str(save_tiny_teacher(folder / "clip"))
    encoder = load_encoder(EncoderConfig(kind="clip", name=name))
    build_store(folder / "store", encoder, items)
    return encoder, items, EmbeddingStore(folder / "store").rows(range(8))


def write_pickle(path, vectors, names):
    """An original pickle of one caption for each vector."""
    captions = [
        {"image_id": name, "id": row, "caption": "a dog", "clip_embedding": row}
        for row, name in enumerate(names)
    ]
    content = {"clip_embedding": torch.from_numpy(vectors), "captions": captions}
    path.write_bytes(pickle.dumps(content))
    return path


def write_clip_retrieval(folder, vectors, names):
    """Two parts as `clip-retrieval inference` writes them."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for part in ("img_emb", "metadata"):
        (folder / part).mkdir(parents=True)
    for number, rows in enumerate((slice(0, 5), slice(5, None))):
        np.save(folder / f"img_emb/img_emb_{number}.npy", vectors[rows])
        table = pyarrow.table({"image_path": names[rows]})
        parquet.write_table(table, folder / f"metadata/metadata_{number}.parquet")
    return folder


def write_matrix(folder, vectors, names):
    """One matrix beside a list of names."""
    folder.mkdir()
    np.save(folder / "image_embeddings.npy", vectors)
    (folder / "image_names.txt").write_text("\n".join(names) + "\n")
    return folder


@pytest.mark.parametrize("write", [write_pickle, write_clip_retrieval, write_matrix])
def test_store_holds_the_vectors_under_the_recipe_s_ids(world, tmp_path, write):
    encoder, items, vectors = world
    order = [5, 2, 7, 0, 1, 6, 3]  # the fifth photo is missing
    source = write(tmp_path / "source", vectors[order], [items[i].path.name for i in order])
    skipped = import_store(tmp_path / "store", source, encoder, items)
    assert [photo.key for photo in skipped] == [items[4].image_id]
    store = EmbeddingStore(tmp_path / "store")
    store.check_encoder(encoder)
    for number in sorted(order):
        row = store.row_of[items[number].image_id]
        np.testing.assert_array_equal(store.rows([row])[0], vectors[number])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v[:, :5], "vectors of shape"),
        (lambda v: v[::-1].copy() * [[-1]], "gives another vector for"),
        (lambda v: v / np.linalg.norm(v, axis=1, keepdims=True), "normalize = true"),
    ],
)
def test_vectors_of_another_encoder_are_refused(world, tmp_path, change, message):
    encoder, items, vectors = world
    changed = np.ascontiguousarray(change(vectors.astype(np.float32)), np.float32)
    source = write_pickle(tmp_path / "s.pkl", changed, [item.path.name for item in items])
    with pytest.raises(InputError, match=message):
        import_store(tmp_path / "store", source, encoder, items)
    assert not (tmp_path / "store").exists()


def test_captions_of_one_image_with_different_vectors_are_refused(world, tmp_path):
    encoder, items, vectors = world
    source = write_pickle(tmp_path / "s.pkl", vectors, [items[0].path.name] * 8)
    with pytest.raises(InputError, match="captions and images are mixed up"):
        import_store(tmp_path / "store", source, encoder, items)


def test_a_source_of_other_images_or_of_another_kind_is_refused(world, tmp_path):
    encoder, items, vectors = world
    source = write_pickle(tmp_path / "s.pkl", vectors, [f"{n}.png" for n in range(8)])
    with pytest.raises(InputError, match="names none of the recipe's 8 images"):
        import_store(tmp_path / "store", source, encoder, items)
    with pytest.raises(InputError, match="floats with a row for each of the 3 names"):
        import_store(
            tmp_path / "store", write_matrix(tmp_path / "m", vectors, list("abc")), encoder, items
        )
    with pytest.raises(InputError, match="has no img_emb"):
        import_store(tmp_path / "store", tmp_path, encoder, items)
