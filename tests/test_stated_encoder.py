"""Training on vectors whose encoder's weights are not at hand."""

import json

import numpy as np
import pytest
import torch

from prefixcap.caption_stage import caption_recipe as train_captioner
from prefixcap.captioner import Captioner
from prefixcap.config import EncoderConfig
from prefixcap.embeddings import EmbeddingStore, StoreItem
from prefixcap.encoder import StatedEncoder, load_encoder
from prefixcap.errors import InputError
from prefixcap.model import ClipCap
from prefixcap.recipe import load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch, embed_recipe
from prefixcap.store_build import build_store
from tests.tiny_run import PHOTOS, caption_recipe, save_tiny_teacher, write_photos

STATED = 'encoder={kind="clip", name="openai/clip-vit-base-patch32", normalize=true, stated_dim=8}'


@pytest.fixture
def recipe(tmp_path):
    """Recipe of a captioner on unit vectors (24, 8) in a matrix with a list of names."""
    data = write_photos(tmp_path / "data")
    (tmp_path / "c.toml").write_text(caption_recipe(data))
    vectors = np.random.default_rng(0).normal(size=(PHOTOS, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    (tmp_path / "vectors").mkdir()
    np.save(tmp_path / "vectors" / "v.npy", vectors.astype(np.float16))
    names = sorted(path.name for path in (data / "images").iterdir())
    (tmp_path / "vectors" / "names.txt").write_text("\n".join(names) + "\n")
    settings = [
        STATED,
        f"store={tmp_path}/store",
        f"store_from={tmp_path}/vectors",
        "train={epochs=1, images_per_step=4, warmup_steps=0, precision='fp32', threads=1}",
    ]
    return load_recipe(tmp_path / "c.toml", settings)


def test_a_captioner_is_trained_without_the_encoder_s_weights(recipe, tmp_path):
    assert embed_recipe(recipe, Watch()) == []
    run = RunFolder(tmp_path / "run", recipe)
    train_captioner(recipe, run, Watch())
    config = json.loads((run.path / "best" / "config.json").read_text())
    assert config["encoder"]["name"] == "openai/clip-vit-base-patch32"
    assert config["encoder"]["stated_dim"] is None  # a user of the model has the weights
    assert config["embedding_dim"] == 8
    captioner = Captioner.from_pretrained(
        run.path / "best", device="cpu", dtype=torch.float32, encoder=StatedEncoder(recipe.encoder)
    )
    vectors = torch.from_numpy(EmbeddingStore(tmp_path / "store").rows([0, 1])).float()
    assert len(captioner.captions_of_embeddings(vectors)) == 2
    with pytest.raises(InputError, match="only its width is stated"):
        captioner.caption([next((tmp_path / "data" / "images").iterdir())])
    assert ClipCap.from_pretrained(run.path / "best").encoder is None


def test_without_vectors_nothing_can_be_stored(recipe):
    with pytest.raises(InputError, match="store has to be made of vectors"):
        embed_recipe(recipe.model_copy(update={"store_from": ""}), Watch())


@pytest.mark.parametrize(
    ("change", "message"),
    [("stated_dim=8", "vectors of shape"), ("normalize=true", "set encoder.normalize")],
)
def test_vectors_that_are_not_as_stated_are_refused(recipe, tmp_path, change, message):
    wrong = STATED.replace(change, {"stated_dim=8": "stated_dim=9"}.get(change, "normalize=false"))
    encoder = load_recipe(tmp_path / "c.toml", [wrong]).encoder
    with pytest.raises(InputError, match=message):
        embed_recipe(recipe.model_copy(update={"encoder": encoder}), Watch())


def test_a_store_made_with_the_weights_serves_who_has_not_got_them(tmp_path):
    name = str(save_tiny_teacher(tmp_path / "clip"))
    photos = sorted((write_photos(tmp_path / "data") / "images").iterdir())[:2]
    config = EncoderConfig(kind="clip", name=name)
    items = [StoreItem(photo.name, photo) for photo in photos]
    build_store(tmp_path / "store", load_encoder(config), items)
    store = EmbeddingStore(tmp_path / "store")
    store.check_encoder(StatedEncoder(config.model_copy(update={"stated_dim": 12})))
    for wrong in ({"stated_dim": 13}, {"stated_dim": 12, "normalize": True}):
        with pytest.raises(InputError, match="holds vectors of encoder"):
            store.check_encoder(StatedEncoder(config.model_copy(update=wrong)))


def test_patches_cannot_be_stated():
    with pytest.raises(ValueError, match="pooled vectors of a named encoder"):
        EncoderConfig(kind="clip", name="x", output="patches", stated_dim=8)
