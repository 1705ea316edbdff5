"""Stores made of what clip-retrieval and the original wrote; vectors of others are refused."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from prefixcap import foreign_embeddings
from prefixcap.config import EncoderConfig
from prefixcap.embeddings import EmbeddingStore, StoreItem
from prefixcap.encoder import StatedEncoder, load_encoder
from prefixcap.errors import InputError
from prefixcap.foreign_embeddings import import_store
from prefixcap.store_build import build_store
from tests.tiny_run import save_tiny_teacher, write_photos

SIXTH_BROKEN = np.where(np.arange(8) == 5, np.nan, 1).astype(np.float32)[:, None]  # (8, 1)


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


def write_pickle(path, vectors, names, rows=None, text="a dog"):
    """An original pickle of one caption for each name, on its own vector or on those of `rows`."""
    captions = [
        {"image_id": name, "id": row, "caption": text, "clip_embedding": row}
        for name, row in zip(names, rows or range(len(vectors)), strict=True)
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


def test_more_images_and_vectors_get_rows_behind_those_that_are_there(world, tmp_path, monkeypatch):
    monkeypatch.setattr(foreign_embeddings, "COMPARED", 3)
    encoder, items, vectors = world
    names, folder = [item.path.name for item in items], tmp_path / "store"
    some = [6, 1, 3]
    source = write_matrix(tmp_path / "some", vectors[some], [names[number] for number in some])
    assert len(import_store(folder, source, encoder, items[1:])) == 4
    before = EmbeddingStore(folder)
    assert before.ids == [items[number].image_id for number in sorted(some)]
    source, plan = tmp_path / "all", (folder / "plan.json").read_text()
    with pytest.raises(InputError, match="is not finite"):
        import_store(folder, write_matrix(source, vectors * SIXTH_BROKEN, names), encoder, items)
    assert (folder / "plan.json").read_text() == plan  # the recipe of fewer images still fits
    np.save(source / "image_embeddings.npy", vectors)
    assert import_store(folder, source, encoder, items) == []
    store = EmbeddingStore(folder)
    assert store.ids[:3] == before.ids and len(store) == 8
    for number, item in enumerate(items):
        own = store.rows([store.row_of[item.image_id]])[0]
        np.testing.assert_array_equal(own, vectors[number])


def test_captions_of_one_image_with_different_vectors_are_refused(world, tmp_path):
    encoder, items, vectors = world
    names = [items[0].path.name] * 8
    for source, said in (
        (write_matrix(tmp_path / "m", vectors, names), "captions and images are mixed up"),
        (write_pickle(tmp_path / "s.pkl", vectors, names), "embeddings that are not alike"),
    ):
        with pytest.raises(InputError, match=said):
            import_store(tmp_path / "store", source, encoder, items)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([0, 1, 2, 3, 4, 0, 1, 2], "starts again at caption 5: 3 captions point to embeddings of"),
        ([0, 1, 2, 3, 4, 5, 5, 6], "different images point to the same 1 embeddings"),
        ([1, 2, 3, 4, 5, 6, 7, 8], "1 captions point outside the 8 embeddings"),
    ],
)
def test_a_pickle_that_the_audit_finds_wrong_is_refused_as_the_audit_says(
    world, tmp_path, rows, said
):
    """The first captions are right, or the encoder is only stated, so no vector tells."""
    _, items, vectors = world
    encoder = StatedEncoder(EncoderConfig(kind="clip", name="stated", stated_dim=12))
    source = write_pickle(tmp_path / "s.pkl", vectors, [i.path.name for i in items], rows)
    with pytest.raises(InputError, match=said) as error:
        import_store(tmp_path / "store", source, encoder, items)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "store").exists()


def test_what_the_audit_says_of_captions_alone_does_not_refuse_their_vectors(world, tmp_path):
    encoder, items, vectors = world
    names = [item.path.name for item in items]
    source = write_pickle(tmp_path / "s.pkl", vectors, names, text=" .")
    assert import_store(tmp_path / "store", source, encoder, items) == []
    np.testing.assert_array_equal(EmbeddingStore(tmp_path / "store").rows(range(8)), vectors)


def test_vectors_that_are_wrong_behind_the_first_are_refused(world, tmp_path):
    encoder, items, vectors = world
    more = [StoreItem(f"again/{number}.jpg", items[number % 8].path) for number in range(80)]
    kept = np.concatenate([np.tile(vectors, (5, 1)), -np.tile(vectors, (5, 1))])
    names = [f"{number}.jpg" for number in range(80)]
    source = write_matrix(tmp_path / "m", kept, names)
    with pytest.raises(InputError, match="gives another vector for again/"):
        import_store(tmp_path / "store", source, encoder, more)
    assert not (tmp_path / "store").exists()


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


def test_a_store_of_other_vectors_is_kept(world, tmp_path):
    encoder, items, vectors = world
    names = [item.path.name for item in items]
    import_store(
        tmp_path / "store", write_matrix(tmp_path / "a", vectors[:6], names[:6]), *world[:2]
    )
    changed = vectors.copy()
    changed[5] *= 0.995  # still this encoder's, as far as a cosine tells
    source = write_matrix(tmp_path / "b", changed, names)
    with pytest.raises(InputError, match=f"another vector of {items[5].image_id} already"):
        import_store(tmp_path / "store", source, encoder, items)
    np.testing.assert_array_equal(EmbeddingStore(tmp_path / "store").rows(range(6)), vectors[:6])
    more = write_matrix(tmp_path / "c", vectors, names)
    assert import_store(tmp_path / "store", more, encoder, items) == []
    np.testing.assert_array_equal(EmbeddingStore(tmp_path / "store").rows(range(8)), vectors)


@pytest.mark.parametrize("number", [0, 5])  # among those that are compared, and not
@pytest.mark.parametrize(
    ("factor", "message"), [(np.nan, "is not finite"), (1e9, "is not finite"), (7, "has length 7")]
)
def test_one_bad_vector_is_named_and_nothing_is_written(
    tmp_path, monkeypatch, number, factor, message
):
    monkeypatch.setattr(foreign_embeddings, "COMPARED", 3)
    encoder = StatedEncoder(
        EncoderConfig(kind="clip", name="stated", stated_dim=12, normalize=True)
    )
    items = [StoreItem(f"0-folder/{n}.jpg", tmp_path / f"{n}.jpg") for n in range(8)]
    vectors = np.eye(8, 12, dtype=np.float32)
    vectors[number] *= factor
    source = write_matrix(tmp_path / "m", vectors, [item.path.name for item in items])
    with pytest.raises(InputError, match=message):
        import_store(tmp_path / "store", source, encoder, items)
    assert not list((tmp_path / "store").glob("[!.]*"))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["/old/train/0.jpg", "/old/train/1.jpg"], [0, 1]),
        (
            ["/old/val/1.jpg", "/old/train/0.jpg", "/old/train/1.jpg", "/old/val/0.jpg"],
            [1, 2, 3, 0],
        ),
        (["0.jpg", "2.jpg"], [None, None, None, None, 1]),
        (["0", "2"], [None, None, None, None, 1]),
    ],
)
def test_a_photo_is_found_by_as_much_of_its_path_as_only_it_has(tmp_path, names, found):
    encoder = StatedEncoder(
        EncoderConfig(kind="clip", name="stated", stated_dim=12, normalize=True)
    )
    paths = ["train/0.jpg", "train/1.jpg", "val/0.jpg", "val/1.jpg", "val/2.jpg"]
    items = [StoreItem(f"0-folder/{path}", tmp_path / path) for path in paths]
    vectors = np.eye(4, 12, dtype=np.float32)[: len(names)]
    skipped = import_store(
        tmp_path / "store", write_matrix(tmp_path / "m", vectors, names), encoder, items
    )
    found = found + [None] * (5 - len(found))
    rows = EmbeddingStore(tmp_path / "store").row_of
    assert [photo.key for photo in skipped] == [
        item.image_id for item, row in zip(items, found, strict=True) if row is None
    ]
    for item, row in zip(items, found, strict=True):
        if row is not None:
            own = EmbeddingStore(tmp_path / "store").rows([rows[item.image_id]])[0]
            np.testing.assert_array_equal(own, vectors[row])


def test_a_store_that_another_process_makes_is_left_alone(world, tmp_path):
    encoder, items, vectors = world
    source = write_matrix(tmp_path / "m", vectors, [item.path.name for item in items])
    (tmp_path / "store").mkdir()
    code = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'a'); "
        "fcntl.lockf(file, fcntl.LOCK_EX, 1, 5); print('has it', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "store" / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"has it\n"
        with pytest.raises(InputError, match="another process is making this store"):
            import_store(tmp_path / "store", source, encoder, items)
        other.kill()
    assert import_store(tmp_path / "store", source, encoder, items) == []


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01", b"no matrix"])
def test_a_damaged_matrix_is_one_line(world, tmp_path, content):
    source = write_matrix(tmp_path / "m", world[2], [item.path.name for item in world[1]])
    (source / "image_embeddings.npy").write_bytes(content)
    with pytest.raises(InputError, match="no matrix that numpy can read"):
        import_store(tmp_path / "store", source, *world[:2])
