"""Recipes for photos of one's own: each trains on a folder with a text beside each photo."""

import shutil
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from prefixcap.caption_stage import caption_recipe
from prefixcap.captioner import Captioner
from prefixcap.recipe import load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch, embed_recipe
from tests.small_recipes import checked_header, name_of, recipes_in
from tests.source_tree import REPOSITORY
from tests.test_readme import fences
from tests.tiny_clipcap import tiny_tokenizer
from tests.tiny_run import save_tiny_teacher, write_photos

RECIPES = recipes_in(("own",))


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """Folder with eight photos to train on and two of dev, named by the recipes' variable."""
    found = sorted((write_photos(tmp_path / "published") / "images").iterdir())
    for part, some in (("train", found[:8]), ("dev", found[8:10])):
        (tmp_path / "own" / part).mkdir(parents=True)
        for photo in some:
            copy = shutil.copy(photo, tmp_path / "own" / part)
            Path(copy).with_suffix(".txt").write_text(f"A {photo.stem.split('_')[1]} photo.\n")
    monkeypatch.setenv("OWN_PHOTOS", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_header_says_command_cost_and_scores(path):
    assert f"runs/{load_recipe(path).name}/best" in checked_header(path)


def trained(path: Path, folder: Path, *settings: str) -> Path:
    """Run folder of the recipe, trained for one epoch of one step."""
    recipe = load_recipe(
        path, ["train.epochs=1", "train.threads=1", "decoding.beam_size=2", *settings]
    )
    if recipe.store:
        assert embed_recipe(recipe, Watch()) == []
    run = RunFolder(folder / recipe.name, recipe)
    caption_recipe(recipe, run, Watch())
    return run.path


def test_mini_is_fine_tuned_on_a_folder(photos, tmp_path):
    run = trained(REPOSITORY / "recipes/own/folder.toml", tmp_path)
    captioner = Captioner.from_pretrained(run / "best", device="cpu")
    assert captioner.caption(next((photos / "dev").glob("*.jpg"))).text
    mini = Captioner.from_pretrained("mini", device="cpu").model.config
    assert captioner.model.config.encoder == mini.encoder
    assert captioner.model.config.mapper == mini.mapper


def test_clip_and_gpt2_are_trained_on_a_folder(photos, tmp_path):
    sizes = {"vocab_size": 270, "n_positions": 100, "n_embd": 16, "n_layer": 1, "n_head": 2}
    config = GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    tiny_tokenizer().save(tmp_path / "gpt2")
    small = [
        f"store={tmp_path}/store",
        f"encoder.name={save_tiny_teacher(tmp_path / 'vit')}",
        f"language_model.name={tmp_path}/gpt2",
        "mapper.layers=1",
        "decoding.stop_word=a",
        "decoding.max_tokens=5",
    ]
    run = trained(REPOSITORY / "recipes/own/clip_gpt2.toml", tmp_path, *small)
    assert (run / "best/config.json").exists()


def test_the_recipe_on_the_page_about_training_is_one(tmp_path):
    [text] = [text for text in fences(REPOSITORY / "docs/train.md", "toml") if "stage =" in text]
    (tmp_path / "own.toml").write_text(text)
    assert load_recipe(tmp_path / "own.toml").encoder.kind == "mbconv"
