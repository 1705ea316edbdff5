"""The store: each image once, continued after a kill, one encoder's vectors only."""

import numpy as np
import pytest
import torch
from PIL import Image

from prefixcap import embeddings
from prefixcap.config import EncoderConfig, PreprocessConfig, ResNetConfig
from prefixcap.embeddings import EmbeddingStore, StoreItem, build_store
from prefixcap.encoder import ImageEncoder, build_encoder
from prefixcap.errors import InputError


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
    assert encoded == [6, 8, 9]  # the first shard of 4 was kept
    ours, theirs = EmbeddingStore(tmp_path / "store"), EmbeddingStore(tmp_path / "whole")
    assert ours.ids == theirs.ids
    np.testing.assert_array_equal(ours.rows(range(9)), theirs.rows(range(9)))


def test_another_encoder_is_refused(tmp_path, items):
    build_store(tmp_path / "store", make_encoder(), items)
    with pytest.raises(InputError, match="was begun for another encoder"):
        build_store(tmp_path / "store", make_encoder(seed=1), items)
    store = EmbeddingStore(tmp_path / "store")
    store.check_encoder(make_encoder())
    with pytest.raises(InputError, match="holds vectors of encoder"):
        store.check_encoder(make_encoder(seed=1))


def test_other_images_are_refused(tmp_path, items):
    build_store(tmp_path / "store", make_encoder(), items[:6])
    with pytest.raises(InputError, match="was begun for other images"):
        build_store(tmp_path / "store", make_encoder(), items)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(InputError, match="Build it: prefixcap embed"):
        EmbeddingStore(tmp_path)
