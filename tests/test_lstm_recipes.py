"""LSTM captioners through recipes: the studies' ones, and what a recipe may not ask for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from prefixcap.batches import StoreSource, read_dev_sources, read_sources
from prefixcap.caption_stage import caption_recipe
from prefixcap.captioner import Captioner
from prefixcap.embeddings import EmbeddingStore
from prefixcap.errors import InputError
from prefixcap.evaluate import evaluate_captioner
from prefixcap.lstm import LstmCaptioner
from prefixcap.recipe import Recipe, load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch
from tests import tiny_clipcap
from tests.small_recipes import checked_header, name_of, recipes_in, small_recipe, train_small
from tests.source_tree import REPOSITORY
from tests.test_imagenet_resnet import published, reference
from tests.tiny_run import save_tiny_teacher, write_photos

FOLDERS = ("vizwiz", "lstm_flickr")
RECIPES = recipes_in(FOLDERS)
SHOW_TELL = REPOSITORY / "recipes" / "vizwiz" / "clip-lstm.toml"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Folder with photos, a tiny CLIP ViT and a tiny ResNet; stores come into it."""
    folder = tmp_path_factory.mktemp("world")
    write_photos(folder / "data")
    save_tiny_teacher(folder / "vit")
    torch.save(published(reference(bottleneck=True)), folder / "resnet50.pth")
    return folder


def small(path: Path, world: Path, *more: str) -> Recipe:
    """The recipe with the encoder, data and sizes of the tiny world."""
    recipe = load_recipe(path)
    is_clip = recipe.encoder.kind == "clip"
    preprocess = "{crop_px=32, resize_px=32}"
    settings = [
        f"store={world}/store-{is_clip}-{recipe.encoder.output}",
        f"encoder.kind={'clip' if is_clip else 'imagenet_resnet'}",
        f"encoder.name={world / ('vit' if is_clip else 'resnet50.pth')}",
        f"encoder.preprocess={preprocess}",
        "lstm.embedding_size=8",
        "lstm.hidden_size=12",
        "lstm.attention_size=6",
        'train.device="cpu"',
        f"decoding.min_tokens={min(recipe.decoding.min_tokens, 5)}",
    ]
    return small_recipe(path, world, [*settings, *more])


def train_embeddings(recipe: Recipe) -> torch.Tensor:
    """Stored embeddings of the recipe's training photos."""
    records = read_sources(recipe.data)
    source = StoreSource(EmbeddingStore(Path(recipe.store)), records)
    return source.images(np.arange(len(records)), np.random.default_rng(0))[1]


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_header_says_row_command_cost_and_scores(path):
    name = load_recipe(path).name
    assert f"runs/{name}/best" in checked_header(path)


def test_names_of_the_recipes_are_all_different():
    assert len({load_recipe(path).name for path in RECIPES}) == len(RECIPES) == 9


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_recipe_trains_two_steps_from_its_store(path, world, tmp_path):
    recipe = small(path, world)
    run, log = train_small(recipe, tmp_path)
    assert [line["step"] for line in log if "loss" in line] == [1, 2]
    assert "flickr8k CIDEr" in log[-1]
    captioner = Captioner.from_pretrained(run / "best", device="cpu", dtype=torch.float32)
    assert isinstance(captioner.model, LstmCaptioner)
    standard, seen = captioner.model.network.standard, train_embeddings(recipe).flatten(0, -2)
    torch.testing.assert_close(standard.mean, seen.mean(0), rtol=1e-4, atol=1e-5)
    assert standard(seen).std(0).max() == pytest.approx(1, abs=0.05)
    [records] = read_dev_sources(recipe.dev)
    written = evaluate_captioner(captioner, records, None, ("bleu",))
    assert written.scores.corpus["BLEU-1"] == pytest.approx(log[-1]["flickr8k BLEU-1"])
    if recipe.decoding.min_tokens:
        assert {len(text.split()) for text in written.captions.values()} == {5}


def test_an_lstm_learns_colours_from_pixels_and_goes_on_from_an_earlier_one(world, tmp_path):
    sizes = [f"lstm.{name}" for name in ("min_count=1", "layers=1", "hidden_size=32")]
    rate = ["train.lr=2e-2", "train.decay=linear", "train.precision=fp32", "train.epochs=50"]
    pixels = ["store=", "views.stored_px=32", "train.shuffle_captions=false"]
    settings = [*sizes, *rate, *pixels, "lstm.embedding_size=32", "train.validate_epochs=25"]
    run, log = train_small(small(SHOW_TELL, world, *settings), tmp_path)
    assert log[-1]["score"] > 1.8  # the best constant caption has 1.56
    more = ["train.lr=1e-9", "train.ema=0.9", "name=again", "train.epochs=1"]
    again, second = train_small(
        small(SHOW_TELL, world, *settings, *more, f"start_from={run}/best"), tmp_path
    )
    assert second[-1]["score"] == pytest.approx(max(line.get("score", 0) for line in log))
    first, taken_over = (
        LstmCaptioner.from_pretrained(folder / "best").network.standard for folder in (run, again)
    )
    assert torch.equal(first.spread, taken_over.spread) and first.spread.std() > 0
    same = small(SHOW_TELL, world, *settings, *more, f"start_from={run}/best")
    third = train_small(same, tmp_path)[1]  # the same command goes on where nothing is left to do
    assert [line for line in third if "loss" in line] == [line for line in second if "loss" in line]


def test_what_an_lstm_recipe_may_not_ask_for(world, tmp_path):
    with pytest.raises(InputError, match=r"takes the place of \[mapper\]"):
        small(SHOW_TELL, world, "mapper.layers=2")
    with pytest.raises(InputError, match=r"set lstm.attention"):
        small(SHOW_TELL, world, "encoder.output=patches")
    tiny_clipcap.tiny_model().save_pretrained(tmp_path / "clipcap")
    other = small(SHOW_TELL, world, f"start_from={tmp_path}/clipcap")
    with pytest.raises(InputError, match=r"holds a ClipCap"):
        caption_recipe(other, RunFolder(tmp_path / "run", other), Watch())
