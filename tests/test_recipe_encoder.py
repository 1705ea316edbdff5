"""A published encoder that is trained with its captioner is saved with it, and found again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Dinov2Config, Dinov2Model, SiglipVisionConfig, SiglipVisionModel

from prefixcap.batches import read_dev_sources
from prefixcap.caption_stage import CaptionIds
from prefixcap.caption_stage import caption_recipe as run_caption
from prefixcap.captioner import Captioner
from prefixcap.cli import main as cli
from prefixcap.config import EncoderConfig
from prefixcap.dev_split import DevSplit
from prefixcap.embeddings import EmbeddingStore
from prefixcap.encoder import load_encoder
from prefixcap.errors import InputError
from prefixcap.recipe import Recipe, load_recipe
from prefixcap.recipe_encoder import encoder_of_store, is_meant, recipe_encoder
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch, embed_recipe
from tests.test_imagenet_resnet import published, reference
from tests.test_mobilenet import torchvision_weights
from tests.test_transformer_encoders import dinov2_processor, siglip_processor
from tests.tiny_encoders import VISION, clip_resnet, noisy, save_clip, visual
from tests.tiny_run import caption_recipe, encoder_tables, write_photos


def save_siglip(folder: Path) -> Path:
    """`folder` with a tiny SigLIP's vision part."""
    config = {key: value for key, value in VISION.items() if key != "projection_dim"}
    noisy(SiglipVisionModel(SiglipVisionConfig(**config))).save_pretrained(folder)
    siglip_processor().save_pretrained(folder)
    return folder


def save_dinov2(folder: Path) -> Path:
    """`folder` with a tiny DINOv2."""
    noisy(Dinov2Model(Dinov2Config(**VISION))).save_pretrained(folder)
    dinov2_processor().save_pretrained(folder)
    return folder


def save_clip_resnet(folder: Path) -> Path:
    """A tiny CLIP ResNet under OpenAI's names, with the number of its heads beside it."""
    folder.mkdir()
    save_file(visual(clip_resnet()), folder / "rn.safetensors")
    (folder / "rn.json").write_text('{"heads": 2}')
    return folder / "rn.safetensors"


def save_imagenet_resnet(folder: Path) -> Path:
    """A tiny ResNet under torchvision's names, in a file that does not tell its sizes."""
    folder.mkdir()
    save_file(published(reference(bottleneck=True)), folder / "own.safetensors")
    return folder / "own.safetensors"


def save_mobilenet(folder: Path) -> Path:
    """A MobileNetV2 under torchvision's names."""
    folder.mkdir()
    save_file(torchvision_weights(), folder / "mobilenet_v2.safetensors")
    return folder / "mobilenet_v2.safetensors"


SAVED: dict[str, Callable[[Path], Path]] = {
    "clip": save_clip,
    "siglip": save_siglip,
    "dinov2": save_dinov2,
    "clip_resnet": save_clip_resnet,
    "imagenet_resnet": save_imagenet_resnet,
    "mobilenetv2": save_mobilenet,
}
SMALL = '[encoder.preprocess]\ncrop_px = 64\nresize = "squash"\n'  # not ImageNet's 224 pixels


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Photos in Flickr8k's format."""
    return write_photos(tmp_path_factory.mktemp("photos") / "data")


def recipe_of(photos: Path, kind: str, name: Path | str, *settings: str, extra: str = "") -> Recipe:
    """Recipe of a captioner with a published encoder, without the rate of one."""
    small = SMALL if kind in ("imagenet_resnet", "mobilenetv2") else ""
    table = f'[encoder]\nkind = "{kind}"\nname = "{name}"\n{small}'
    text = caption_recipe(photos, extra).replace(encoder_tables(), table)
    path = photos.parent / "recipe.toml"
    path.write_text(text.replace("lr_encoder = 1e-3\n", "").replace("ema = 0.9\n", ""))
    return load_recipe(path, ["train.epochs=0.5", *settings])


def trained(recipe: Recipe, runs: Path) -> Path:
    """Folder of the recipe's run."""
    run = RunFolder(runs / recipe.name, recipe)
    run_caption(recipe, run, Watch())
    return run.path


def photo_of(photos: Path) -> Image.Image:
    return Image.open(sorted((photos / "images").iterdir())[0])


@pytest.mark.parametrize("kind", SAVED)
def test_a_tuned_encoder_of_every_kind_is_saved_and_needs_its_origin_no_more(
    photos, tmp_path, kind
):
    name = SAVED[kind](tmp_path / "origin")
    recipe = recipe_of(photos, kind, name, "train.lr_encoder=1e-3")
    before = recipe_encoder(recipe, None).eval()
    run = trained(recipe, tmp_path)
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    shutil.rmtree(tmp_path / "origin")
    captioner = Captioner.from_pretrained(run / "model", dtype=torch.float32)
    embedding, untuned = captioner.embed([photo_of(photos)]), before.encode([photo_of(photos)])
    assert not torch.allclose(embedding, untuned, rtol=1e-3)
    checkpoint = load_file(sorted(run.glob("checkpoints/*"))[-1] / "weights.safetensors")
    for key, tensor in captioner.encoder.state_dict().items():
        assert torch.equal(tensor, checkpoint[f"model.encoder.{key}"]), key
    validated = [line for line in logged if "score" in line][-1]
    found = scores_of(recipe, captioner, tmp_path)
    for value in ("score", "dev_loss"):
        assert found[value] == pytest.approx(validated[value], rel=1e-5)
    captioner.model.save_pretrained(tmp_path / "copy")
    copy = Captioner.from_pretrained(tmp_path / "copy", dtype=torch.float32)
    assert copy.encoder.fingerprint() == captioner.encoder.fingerprint()


def scores_of(recipe: Recipe, captioner: Captioner, folder: Path) -> dict[str, float]:
    """What a validation of the captioner would log."""
    again = recipe.model_copy(update={"name": "again"})
    run = RunFolder(folder / "again", again)
    ids = CaptionIds(captioner.model.tokenizer, recipe)
    split = DevSplit(again, run, read_dev_sources(recipe.dev), ids)
    return split.scores(captioner, 1)


def test_a_named_encoder_is_loaded_and_then_stored_where_the_recipe_says_so(photos, tmp_path):
    name = save_clip(tmp_path / "clip")
    stored = recipe_of(photos, "clip", name, "encoder.stored=true")
    by_name = recipe_encoder(recipe_of(photos, "clip", name), None)
    assert not by_name.config.stored
    assert recipe_encoder(stored, None).fingerprint() == by_name.fingerprint()
    run = trained(stored, tmp_path)
    shutil.rmtree(name)
    kept = Captioner.from_pretrained(run / "model", dtype=torch.float32).encoder
    assert kept.fingerprint() == by_name.fingerprint()
    assert cli.main(["export", str(run / "model"), "--out", str(tmp_path / "out")]) == 0
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["encoder"]["name"] == "clip"  # not a folder of this machine
    shared = Captioner.from_pretrained(tmp_path / "out", dtype=torch.float32).encoder
    assert shared.fingerprint() == by_name.fingerprint()


def test_a_captioner_goes_on_from_a_tuned_encoder_with_the_same_recipe(photos, tmp_path):
    name = save_clip(tmp_path / "clip")
    first = trained(recipe_of(photos, "clip", name, "train.lr_encoder=1e-3"), tmp_path)
    tuned = Captioner.from_pretrained(first / "model", dtype=torch.float32).encoder.fingerprint()
    again = recipe_of(
        photos,
        "clip",
        name,
        "name=again",
        f"store={tmp_path}/store",
        "views={}",
        f"start_from={first}/model",
    )
    assert encoder_of_store(again).fingerprint() == tuned
    assert embed_recipe(again, Watch()) == []
    EmbeddingStore(tmp_path / "store").check_encoder(encoder_of_store(again))
    second = Captioner.from_pretrained(trained(again, tmp_path) / "best", dtype=torch.float32)
    assert second.encoder.fingerprint() == tuned
    other = recipe_of(photos, "clip", name, "name=other", f"encoder_from={first}/model")
    assert recipe_encoder(other, None).fingerprint() == tuned
    waiting = recipe_of(photos, "clip", name, f"start_from={tmp_path}/untrained")
    assert encoder_of_store(waiting).fingerprint() == load_encoder(waiting.encoder).fingerprint()


def named(name: str | Path) -> EncoderConfig:
    """A CLIP of this name, as `found_by_name` leaves it."""
    return EncoderConfig(kind="clip", name=str(name))


def test_a_tuned_encoder_is_meant_by_its_whole_name_and_by_its_last_where_it_moved(tmp_path):
    for name in ("first/clip", "second/clip"):
        (tmp_path / name).mkdir(parents=True)
    first, second, gone = (tmp_path / name / "clip" for name in ("first", "second", "gone"))
    (tmp_path / "link").symlink_to(first)
    hub, other = named("openai/clip-vit-base-patch32"), named("laion/clip-vit-base-patch32")
    assert is_meant(hub, hub) and not is_meant(hub, other)
    for name in (first, tmp_path / "link", gone, ""):
        assert is_meant(named(name), named(first))
    assert is_meant(named("clip"), named("clip"))  # what an exported model calls it
    assert not is_meant(named(second), named(tmp_path / "siglip"))
    for earlier in (first, gone, "openai/clip", "clip"):
        with pytest.raises(InputError, match=f'To go on from that, .* = "{earlier}"; to begin'):
            is_meant(named(second), named(earlier))
    with pytest.raises(InputError, match=r"encoder\.name is openai/clip, and"):
        is_meant(named("openai/clip"), named(first))


def test_the_tuned_encoder_of_an_lstm_is_saved_too(photos, tmp_path):
    name = save_clip(tmp_path / "clip")
    recipe_of(photos, "clip", name)
    path = photos.parent / "recipe.toml"
    before, _, after = path.read_text().partition("[mapper]")
    path.write_text(f"{before}[lstm]\nhidden_size = 16\n[train]{after.partition('[train]')[2]}")
    recipe = load_recipe(path, ["train.epochs=0.5", "train.lr_encoder=1e-3"])
    untuned = recipe_encoder(recipe, None).fingerprint()
    run = trained(recipe, tmp_path)
    shutil.rmtree(name)
    encoder = Captioner.from_pretrained(run / "model", dtype=torch.float32).encoder
    assert encoder.config.stored and encoder.fingerprint() != untuned


def test_an_encoder_of_which_only_the_width_is_stated_cannot_be_trained(photos, tmp_path):
    settings = ["encoder.stated_dim=24", "train.lr_encoder=1e-3"]
    recipe = recipe_of(photos, "clip", "openai/somewhere", *settings)
    with pytest.raises(InputError, match="of which only the width is stated"):
        trained(recipe, tmp_path)
    assert not (tmp_path / "tiny/log.jsonl").exists()


def test_damaged_settings_of_a_stored_encoder_are_one_line(photos, tmp_path):
    name = save_clip(tmp_path / "clip")
    run = trained(recipe_of(photos, "clip", name, "encoder.stored=true"), tmp_path)
    for content in ("{", "[]", '{"model_type": "dinov2"}', '{"model_type": "abacus"}'):
        (run / "model/encoder.json").write_text(content)
        with pytest.raises(InputError, match=r"encoder\.json: are no settings of an encoder"):
            Captioner.from_pretrained(run / "model")
