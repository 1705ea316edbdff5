"""The store: each image once, continued after a kill, one encoder's vectors only."""

import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from prefixcap import embeddings, store_build
from prefixcap.config import EncoderConfig, PreprocessConfig, ResNetConfig
from prefixcap.embeddings import EmbeddingStore, StoreItem
from prefixcap.encoder import ImageEncoder, build_encoder
from prefixcap.errors import InputError
from prefixcap.images import open_rgb
from prefixcap.store_build import build_store


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(embeddings, "SHARD_ROWS", 4)


def make_encoder(seed: int = 0) -> ImageEncoder:
    """Tiny ResNet with patch tokens."""
    torch.manual_seed(seed)
    config = EncoderConfig(
        kind="resnet",
        output="patches",
        stored=True,
        resnet=ResNetConfig(stem_width=4, widths=(4, 8), depths=(1, 1)),
        preprocess=PreprocessConfig(resize="squash", crop_px=32),
    )
    return build_encoder(config).eval()


@pytest.fixture
def items(tmp_path) -> list[StoreItem]:
    """Ten photos; the fourth is none."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(10):
        path = tmp_path / f"{number}.png"
        if number == 3:
            path.write_bytes(b"\x89PNG broken")
        else:
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
        found.append(StoreItem(f"image {number}", path))
    return found


def test_rows_are_what_the_encoder_says(tmp_path, items):
    encoder = make_encoder()
    skipped = build_store(tmp_path / "store", encoder, items, batch_size=3)
    assert [photo.key for photo in skipped] == ["image 3"]
    store = EmbeddingStore(tmp_path / "store")
    assert len(store) == 9
    assert "image 3" not in store.row_of
    for item in items[:3] + items[4:]:
        found = store.rows([store.row_of[item.image_id]])[0]
        expected = encoder.encode([Image.open(item.path)])[0]
        np.testing.assert_allclose(found, expected, atol=5e-3)


def test_a_killed_build_continues_without_a_duplicate_or_a_hole(tmp_path, items):
    encoder = make_encoder()
    build_store(tmp_path / "whole", encoder, items, batch_size=2)

    class Killed(Exception):
        pass

    def stop(done):
        if done > 5:
            raise Killed

    with pytest.raises(Killed):
        build_store(tmp_path / "store", encoder, items, batch_size=2, on_progress=stop)
    with pytest.raises(InputError, match="not an embedding store"):
        EmbeddingStore(tmp_path / "store")
    encoded = []
    build_store(tmp_path / "store", encoder, items, batch_size=2, on_progress=encoded.append)
    assert encoded == [6, 8, 10]  # the first shard of 4 was kept
    ours, theirs = EmbeddingStore(tmp_path / "store"), EmbeddingStore(tmp_path / "whole")
    assert ours.ids == theirs.ids
    np.testing.assert_array_equal(ours.rows(range(9)), theirs.rows(range(9)))


def test_another_encoder_is_refused(tmp_path, items):
    build_store(tmp_path / "store", make_encoder(), items)
    with pytest.raises(InputError, match=r"was begun for another encoder \(other weights; finger"):
        build_store(tmp_path / "store", make_encoder(seed=1), items)
    store = EmbeddingStore(tmp_path / "store")
    store.check_encoder(make_encoder())
    with pytest.raises(InputError, match=r"holds vectors of encoder resnet .*\(other weights;"):
        store.check_encoder(make_encoder(seed=1))
    normalised = make_encoder()
    normalised.config = normalised.config.model_copy(update={"normalize": True})
    with pytest.raises(InputError, match="normalize: is False, asked for True"):
        store.check_encoder(normalised)
    with pytest.raises(InputError, match=r"another encoder .*normalize: is False, asked for True"):
        build_store(tmp_path / "store", normalised, items)
    plan = json.loads((tmp_path / "store/plan.json").read_text())
    del plan["encoder"]  # as earlier releases wrote it, which kept that in the index alone
    (tmp_path / "store/plan.json").write_text(json.dumps(plan))
    with pytest.raises(InputError, match=r"another encoder .*normalize: is False, asked for True"):
        build_store(tmp_path / "store", normalised, items)
    (tmp_path / "store/index.json").unlink()
    with pytest.raises(InputError, match=r"another encoder \(other settings or weights; finger"):
        build_store(tmp_path / "store", normalised, items)


def test_images_that_the_recipe_lacks_are_refused(tmp_path, items):
    build_store(tmp_path / "store", make_encoder(), items)
    plan = (tmp_path / "store/plan.json").read_text()
    said = r"other images \(10, of which the recipe lacks 4, such as image 6\)"
    with pytest.raises(InputError, match=said):
        build_store(tmp_path / "store", make_encoder(), items[:6])
    with pytest.raises(InputError, match="lacks 1, such as image 0"):
        build_store(tmp_path / "store", make_encoder(), [*items[1:], StoreItem("a", items[0].path)])
    assert (tmp_path / "store/plan.json").read_text() == plan


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(InputError, match="Build it: prefixcap embed"):
        EmbeddingStore(tmp_path)


def test_each_photo_is_opened_once(tmp_path, items, monkeypatch):
    opened = []
    monkeypatch.setattr(store_build, "open_rgb", lambda path: opened.append(path) or open_rgb(path))
    build_store(tmp_path / "store", make_encoder(), items, batch_size=2)
    assert sorted(opened) == sorted(item.path for item in items)


def test_photos_are_decoded_while_the_encoder_works(tmp_path, items, monkeypatch):
    encoder, opened, seen = make_encoder(), [], []
    everything_opened = threading.Event()

    def opens(path):
        opened.append(path)
        if len(opened) == 4:
            everything_opened.set()
        return open_rgb(path)

    forward = encoder.forward

    def waits(batch):
        seen.append(everything_opened.wait(timeout=20))
        return forward(batch)

    monkeypatch.setattr(store_build, "open_rgb", opens)
    monkeypatch.setattr(encoder, "forward", waits)
    build_store(tmp_path / "store", encoder, items[:4], batch_size=1)
    assert seen[0]  # the first of four batches was still being encoded


def test_unreadable_photos_come_back_from_a_finished_store_too(tmp_path, items):
    encoder = make_encoder()
    first = build_store(tmp_path / "store", encoder, items)
    again = build_store(tmp_path / "store", encoder, items)
    assert first == again
    assert len(first) == 1
    assert first[0].reason


def test_a_shard_without_any_readable_photo_does_no_harm(tmp_path, items):
    broken = []
    for number in range(5):
        path = tmp_path / f"broken{number}.png"
        path.write_bytes(b"no photo")
        broken.append(StoreItem(f"broken {number}", path))
    skipped = build_store(tmp_path / "store", make_encoder(), [*broken, *items[:2]])
    store = EmbeddingStore(tmp_path / "store")
    assert [photo.key for photo in skipped] == [item.image_id for item in broken]
    assert store.ids == ["image 0", "image 1"]
    assert store.rows([1, 0]).shape == (2, *store.rows([0]).shape[1:])
    with pytest.raises(IndexError):
        store.rows([0, -1])


def test_a_store_of_an_earlier_release_is_read_and_continued(tmp_path, items):
    encoder, folder = make_encoder(), tmp_path / "store"
    readable = [item for item in items if item.image_id != "image 3"]
    build_store(folder, encoder, readable)
    expected = EmbeddingStore(folder).rows(range(9))
    plan = json.loads((folder / "plan.json").read_text())
    plan |= {"ids": [item.image_id for item in items], "skipped": {"image 3": "is damaged"}}
    (folder / "plan.json").write_text(json.dumps(plan))
    index = json.loads((folder / "index.json").read_text())
    del index["shard_sizes"]
    (folder / "index.json").write_text(json.dumps(index | {"shard_rows": 4}))
    for file in folder.glob("skipped-*"):
        file.unlink()
    np.testing.assert_array_equal(EmbeddingStore(folder).rows(range(9)), expected)
    for name in ("index.json", "ids-00002.json", "embeddings-00002.npy"):
        (folder / name).unlink()
    assert [photo.key for photo in build_store(folder, encoder, items)] == ["image 3"]
    np.testing.assert_array_equal(EmbeddingStore(folder).rows(range(9)), expected)


def test_a_vector_that_is_not_finite_is_refused(tmp_path, items, monkeypatch):
    encoder = make_encoder()
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda batch: forward(batch) * 1e9)
    with pytest.raises(InputError, match="vector of image 0 is not finite"):
        build_store(tmp_path / "store", encoder, items)


def test_a_row_that_is_not_finite_names_its_image(tmp_path, items):
    encoder, folder = make_encoder(), tmp_path / "store"
    build_store(folder, encoder, items)
    shard = np.load(folder / "embeddings-00001.npy", mmap_mode="r+")
    sound = shard[2].copy()
    for broken in (np.nan, -np.inf):
        shard[2, 1, 0] = broken
        shard.flush()
        with pytest.raises(InputError, match="vector of image 6 is not finite") as error:
            EmbeddingStore(folder).rows([0, 5, 4])
        assert "\n" not in str(error.value)
        EmbeddingStore(folder).rows([0, 4])
    (folder / "ids-00001.json").unlink()  # as the message says
    build_store(folder, encoder, items)
    np.testing.assert_allclose(EmbeddingStore(folder).rows([5])[0], sound, atol=5e-3)


def test_rows_are_found_by_id_without_a_dict(tmp_path, items):
    build_store(tmp_path / "store", make_encoder(), items)
    store = EmbeddingStore(tmp_path / "store")
    ids = ["image 9", "image 3", "image 0", "other", "image 9"]
    assert store.rows_of(ids).tolist() == [8, -1, 0, -1, 8]
    assert store.rows_of([]).tolist() == []
    assert "row_of" not in vars(store)


def test_an_empty_store_has_no_rows(tmp_path, items):
    build_store(tmp_path / "store", make_encoder(), [items[3]])
    store = EmbeddingStore(tmp_path / "store")
    assert len(store) == 0
    assert store.rows_of(["image 3", "other"]).tolist() == [-1, -1]


def test_a_damaged_plan_is_one_line(tmp_path, items):
    build_store(tmp_path / "store", make_encoder(), items)
    (tmp_path / "store" / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"plan\.json: is damaged"):
        build_store(tmp_path / "store", make_encoder(), items)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("embeddings-00001.npy", lambda content: b""),
        ("embeddings-00001.npy", lambda content: content[:40]),
        ("embeddings-00001.npy", lambda content: content[:-100]),
        ("embeddings-00001.npy", None),
        ("ids-00001.json", lambda content: content[:-20]),
        ("ids-00001.json", lambda content: b"{}"),
        ("ids-00001.json", lambda content: b'["image 4"]'),
    ],
)
def test_a_damaged_shard_is_named_and_made_again(tmp_path, items, name, damage):
    encoder, folder = make_encoder(), tmp_path / "store"
    build_store(folder, encoder, items)
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(damage(whole)) if damage else path.unlink()
    with pytest.raises(InputError, match=rf"{name}: is damaged .* prefixcap embed RECIPE"):
        store = EmbeddingStore(folder)
        store.rows_of(["image 5"])
        store.rows([4])
    build_store(folder, encoder, items)
    assert path.read_bytes() == whole


def test_photos_that_were_unreadable_get_rows_once_they_can_be_read(tmp_path, items, monkeypatch):
    encoder, folder = make_encoder(), tmp_path / "store"
    build_store(folder, encoder, items)
    Image.open(items[2].path).save(items[3].path)
    before, opened = EmbeddingStore(folder), []

    def counting(source, *rest):
        opened.append(source)
        return open_rgb(source)

    monkeypatch.setattr(store_build, "open_rgb", counting)
    assert build_store(folder, encoder, items) == []
    assert set(opened) == {items[3].path}
    store = EmbeddingStore(folder)
    assert sorted(store.ids) == [item.image_id for item in items]
    row_of = store.row_of
    ours, twin = (store.rows([row_of[f"image {number}"]]) for number in (3, 2))
    np.testing.assert_array_equal(ours, twin)
    assert before.ids == [item.image_id for item in items if item is not items[3]]
    for image_id, row in before.row_of.items():  # of who opened the store before
        np.testing.assert_array_equal(before.rows([row]), store.rows([row_of[image_id]]))
    opened.clear()
    build_store(folder, encoder, items)
    assert opened == []


def test_a_digest_is_of_the_images_own_vectors(tmp_path, items):
    encoder = make_encoder()
    ids = [item.image_id for item in items]
    build_store(tmp_path / "store", encoder, items)
    found = EmbeddingStore(tmp_path / "store").digest(ids)
    build_store(tmp_path / "turned", encoder, items[::-1])  # the same vectors on other rows
    assert EmbeddingStore(tmp_path / "turned").digest(ids) == found
    assert EmbeddingStore(tmp_path / "turned").digest(ids[1:]) != found
    for name in ("embeddings-00000.npy", "embeddings-00002.npy"):
        path = tmp_path / "store" / name
        vectors = np.load(path)
        np.save(path, vectors[::-1])
        assert EmbeddingStore(tmp_path / "store").digest(ids) != found
        np.save(path, vectors)
    assert EmbeddingStore(tmp_path / "store").digest(ids) == found


def test_a_digest_reads_little_of_a_large_store(tmp_path, items, monkeypatch):
    build_store(tmp_path / "store", make_encoder(), items)
    monkeypatch.setattr(embeddings, "DIGEST_ROWS", 2)
    store, looked_at = EmbeddingStore(tmp_path / "store"), []
    rows_of = store.rows_of
    monkeypatch.setattr(store, "rows_of", lambda ids: looked_at.extend(ids) or rows_of(ids))
    store.digest(store.ids)
    assert looked_at == ["image 0", "image 9"]
    assert store.digest([]) == EmbeddingStore(tmp_path / "store").digest([])


def test_a_digest_stays_as_the_store_grows(tmp_path, items, monkeypatch):
    """Also where there are more shards than rows that it looks at."""
    monkeypatch.setattr(embeddings, "DIGEST_ROWS", 2)
    ids = [item.image_id for item in items[:8]]
    build_store(tmp_path / "store", make_encoder(), items[:8])
    found = EmbeddingStore(tmp_path / "store").digest(ids)
    build_store(tmp_path / "store", make_encoder(), items)
    grown = EmbeddingStore(tmp_path / "store")
    assert len(grown.starts) - 1 == 3
    assert grown.digest(ids) == found
