"""Builders of a store: killed, together, over changed photos, in batches for the device."""

import os
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from prefixcap import embeddings, store_build
from prefixcap.config import EncoderConfig, PreprocessConfig
from prefixcap.embeddings import EmbeddingStore, StoreItem
from prefixcap.encoder import BATCH, CONVOLUTIONS, SMALL_BATCH, ImageEncoder, fitting_batch
from prefixcap.errors import InputError
from prefixcap.images import open_rgb
from prefixcap.mobilenet import MobileNetV2
from prefixcap.store_build import StoreBuild, build_store
from tests.killed_builds import encoder, items, vectors_of
from tests.source_tree import REPOSITORY


@pytest.mark.slow
def test_whoever_is_killed_the_store_has_no_duplicate_and_no_hole(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.killed_builds", str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rounds, equal, more_rounds, last = done.stdout.splitlines()
    assert int(rounds.split()[1]) >= 8
    assert int(more_rounds.split()[1]) >= 8
    assert (equal, last) == ("equal", "equal again")


def test_convolutions_are_encoded_in_small_batches_on_a_cpu():
    preprocess = PreprocessConfig(crop_px=32, resize_px=32)
    with torch.device("meta"):
        network = MobileNetV2()
    few = ImageEncoder(EncoderConfig(kind="mobilenetv2", preprocess=preprocess), network)
    few.network.to_empty(device="cpu")
    assert fitting_batch(few) == SMALL_BATCH < BATCH


def test_every_kind_of_convolutions_is_known_as_one():
    groups = get_args(EncoderConfig.model_fields["kind"].annotation)
    kinds = {kind for group in groups for kind in get_args(group)}
    assert kinds - CONVOLUTIONS == {"clip", "siglip", "dinov2"}
    assert kinds > CONVOLUTIONS


@pytest.fixture
def photos(tmp_path, monkeypatch) -> list[StoreItem]:
    """Ten photos, of which the sixth is none, in shards of four."""
    monkeypatch.setattr(embeddings, "SHARD_ROWS", 4)
    return items(tmp_path, 10)


@pytest.fixture
def opened(monkeypatch) -> list:
    """Files of the photos that builds open, in order."""
    found = []
    monkeypatch.setattr(store_build, "open_rgb", lambda path: found.append(path) or open_rgb(path))
    return found


@pytest.mark.parametrize("later", [[0], [8, 1], [0, 2, 4, 6, 7, 9], []])
def test_new_images_get_rows_behind_the_others(tmp_path, photos, later, opened):
    made, folder = encoder(), tmp_path / "store"
    build_store(tmp_path / "whole", made, photos)
    build_store(folder, made, [item for n, item in enumerate(photos) if n not in later])
    before, ids = EmbeddingStore(folder), EmbeddingStore(folder).ids
    opened.clear()
    assert [photo.key for photo in build_store(folder, made, photos)] == ["image 5"]
    assert set(opened) == {photos[number].path for number in [*later, 5]}  # 5 is none, tried again
    store = EmbeddingStore(folder)
    assert sorted(store.ids) == [item.image_id for item in photos if item is not photos[5]]
    assert sorted(store.ids[len(ids) :]) == sorted(photos[number].image_id for number in later)
    assert vectors_of(folder) == vectors_of(tmp_path / "whole")
    rows = range(len(ids))
    np.testing.assert_array_equal(before.rows(rows), store.rows(rows))  # of who had opened it
    opened.clear()
    build_store(folder, made, photos)
    assert opened == [photos[5].path]


def test_who_goes_on_with_fewer_images_leaves_those_of_the_others(tmp_path, photos):
    """Two recipes at work on one store at the same time, one of which has more images."""
    made, folder = encoder(), tmp_path / "store"
    fewer = StoreBuild(folder, made, photos[:6])
    build_store(folder, made, photos)
    found = vectors_of(folder)
    (folder / "ids-00000.json").unlink()
    fewer.encode(lambda done: None, wait=True, decoders=1)
    assert [photo.key for photo in fewer.finish()] == ["image 5"]
    assert vectors_of(folder) == found


def replace_photo(item: StoreItem) -> None:
    """Other pixels under the photo's name."""
    Image.fromarray(np.full((32, 32, 3), 77, np.uint8)).save(item.path)


def test_a_photo_that_was_replaced_is_encoded_again_in_its_place(tmp_path, photos, opened):
    made, folder = encoder(), tmp_path / "store"
    build_store(folder, made, photos)
    before, ids = vectors_of(folder), EmbeddingStore(folder).ids
    replace_photo(photos[6])
    photos[9].path.unlink()  # a photo that is not there any more keeps its row
    opened.clear()
    build_store(folder, made, photos)
    assert set(opened) == {photos[6].path, photos[5].path}
    assert EmbeddingStore(folder).ids == ids
    found = vectors_of(folder)
    assert found.pop("image 6") != before.pop("image 6")
    assert found == before
    store = EmbeddingStore(folder)
    expected = made.encode([Image.open(photos[6].path)])[0]
    np.testing.assert_allclose(store.rows([store.row_of["image 6"]])[0], expected, atol=5e-3)
    opened.clear()
    build_store(folder, made, photos)
    assert opened == [photos[5].path]


def test_a_photo_replaced_by_none_is_refused_in_one_line(tmp_path, photos):
    made, folder = encoder(), tmp_path / "store"
    build_store(folder, made, photos)
    before = vectors_of(folder)
    photos[6].path.write_bytes(b"no photo")
    for _ in range(2):
        with pytest.raises(InputError, match=r"file of image 6 was replaced by .* cannot") as error:
            build_store(folder, made, photos)
        assert "\n" not in str(error.value)
        assert vectors_of(folder) == before
    replace_photo(photos[6])
    build_store(folder, made, photos)
    assert vectors_of(folder)["image 6"] != before["image 6"]


def test_a_store_that_knows_no_files_is_left_as_it_is(tmp_path, photos, opened):
    """Of an earlier release, or of vectors that were taken over."""
    made, folder = encoder(), tmp_path / "store"
    build_store(folder, made, photos[:9])
    for file in folder.glob("files-*"):
        file.unlink()
    replace_photo(photos[8])
    opened.clear()
    build_store(folder, made, photos)
    assert set(opened) == {photos[5].path, photos[9].path}
    replace_photo(photos[9])  # of which the file is known
    opened.clear()
    build_store(folder, made, photos)
    assert set(opened) == {photos[5].path, photos[9].path}
