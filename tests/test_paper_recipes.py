"""Recipes of the papers' tables: their sizes, and each of them trained small for two steps."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from prefixcap import dev_split
from prefixcap.batches import read_dev_sources
from prefixcap.caption_stage import caption_recipe
from prefixcap.captioner import Captioner
from prefixcap.embeddings import EmbeddingStore
from prefixcap.errors import InputError
from prefixcap.evaluate import score_captions
from prefixcap.mapper import build_mapper
from prefixcap.model import ClipCap
from prefixcap.recipe import Recipe, load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch
from tests.small_recipes import checked_header, name_of, recipes_in, small_recipe, train_small
from tests.source_tree import REPOSITORY
from tests.tiny_clipcap import tiny_tokenizer
from tests.tiny_encoders import clip_resnet, visual
from tests.tiny_run import save_tiny_teacher, write_photos

FOLDERS = ("brown", "coco", "conceptual", "figure7")
RECIPES = recipes_in(FOLDERS)
SECOND = "-self-critical"  # recipes that go on from a row of a table
PAPER = [path for path in RECIPES if not path.stem.endswith(SECOND)]
SELF_CRITICAL = [path for path in RECIPES if path.stem.endswith(SECOND)]
EMBEDDING_DIMS = {"RN50x4": 640, "openai/clip-vit-base-patch32": 512}
TABLE_1 = {  # millions of trainable parameters, tables 1 C and 1 D
    "coco/mlp-frozen-rn50x4": 32,
    "coco/transformer-frozen-rn50x4": 43,
    "coco/mlp-tuned-rn50x4": 156,
    "coco/transformer-tuned-rn50x4": 167,
    "conceptual/mlp-tuned-rn50x4": 156,
    "conceptual/transformer-frozen-rn50x4": 43,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Folder with photos, a tiny CLIP ViT and ResNet, a tiny GPT-2; stores come into it."""
    folder = tmp_path_factory.mktemp("world")
    write_photos(folder / "data")
    save_tiny_teacher(folder / "vit")
    torch.save(visual(clip_resnet()), folder / "resnet.pt")
    (folder / "resnet.json").write_text('{"heads": 2}')
    sizes = {"vocab_size": 270, "n_positions": 100, "n_embd": 16, "n_layer": 1, "n_head": 2}
    config = GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)
    GPT2LMHeadModel(config).save_pretrained(folder / "gpt2")
    tiny_tokenizer().save(folder / "gpt2")
    return folder


def small(path: Path, world: Path, *more: str) -> Recipe:
    """The recipe with the encoder, language model, data and sizes of the tiny world."""
    recipe = load_recipe(path)
    kind = recipe.encoder.kind
    settings = [
        f"store={world}/store-{kind}-{recipe.encoder.normalize}",
        f"encoder.name={world / ('resnet.pt' if kind == 'clip_resnet' else 'vit')}",
        f"language_model.name={world}/gpt2",
        "mapper.layers=1",
        "mapper.heads=2",
        "mapper.prefix_length=3",
        "train.warmup_steps=0",
        "decoding.beam_size=2",
        "decoding.stop_word=a",
    ]
    return small_recipe(path, world, [*settings, *more])


def trained_parameters(recipe: Recipe) -> int:
    """Trainable weights of the recipe at its real sizes, on the meta device."""
    with torch.device("meta"):
        lm = GPT2LMHeadModel(GPT2Config()).requires_grad_(not recipe.language_model.frozen)
        mapper = build_mapper(recipe.mapper, EMBEDDING_DIMS[recipe.encoder.name], 768, None)
    both = nn.ModuleList([mapper, lm])
    return sum(p.numel() for p in both.parameters() if p.requires_grad)


@pytest.mark.parametrize(("name", "millions"), TABLE_1.items())
def test_trainable_parameters_are_those_of_table_1(name, millions):
    recipe = load_recipe(REPOSITORY / "recipes" / f"{name}.toml")
    assert round(trained_parameters(recipe) / 1e6) == millions


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_header_says_row_command_cost_and_scores(path):
    header = checked_header(path)
    stated = re.search(r"([\d,]{9,})( trainable parameters| here)", header)
    if stated:
        assert int(stated[1].replace(",", "")) == trained_parameters(load_recipe(path))
    length = "-k$k" if path.parent.name == "figure7" else ""
    assert f"prefixcap evaluate runs/{load_recipe(path).name}{length}/best" in header


def test_names_of_the_recipes_are_all_different():
    assert len({load_recipe(path).name for path in RECIPES}) == len(RECIPES) == len(PAPER) + 2
    assert len(PAPER) == 18


@pytest.mark.parametrize("path", PAPER, ids=name_of)
def test_recipe_trains_two_steps_from_its_store(path, world, tmp_path):
    recipe = small(path, world)
    run, log = train_small(recipe, tmp_path)
    assert [line["step"] for line in log if "loss" in line] == [1, 2]
    assert "flickr8k CIDEr" in log[-1]
    model = ClipCap.from_pretrained(run / "model")
    trained = sum(p.numel() for p in model.mapper.parameters())
    trained += 0 if recipe.language_model.frozen else sum(p.numel() for p in model.lm.parameters())
    assert log[0]["trained_parameters"] == trained


@pytest.mark.parametrize("path", SELF_CRITICAL, ids=name_of)
def test_self_critical_recipe_goes_on_from_its_row(path, world, tmp_path):
    first = path.with_name(path.name.replace(SECOND, ""))
    ours, theirs = load_recipe(path), load_recipe(first)
    assert ours.start_from == f"runs/{theirs.name}/best"
    for part in ("data", "dev", "encoder", "mapper", "language_model", "store"):
        assert getattr(ours, part) == getattr(theirs, part)
    run, _ = train_small(small(first, world), tmp_path)
    _, log = train_small(small(path, world, f"start_from={run}/best"), tmp_path)
    assert [line["step"] for line in log if "reward" in line] == [1, 2]
    assert [line["step"] for line in log if "score" in line] == [0, 2]


def test_dev_captions_from_the_store_are_those_from_photos(world, tmp_path):
    recipe = small(PAPER[0], world)
    run, stored = train_small(recipe, tmp_path)
    captioner = Captioner.from_pretrained(run / "model", dtype=torch.float32)
    [records] = read_dev_sources(recipe.dev)
    written = captioner.caption([record.path for record in records])
    captions = {r.image_id: c.text for r, c in zip(records, written, strict=True)}
    expected = score_captions(captions, records, ("bleu",)).corpus["BLEU-1"]
    assert stored[-1]["flickr8k BLEU-1"] == pytest.approx(expected)
    store = EmbeddingStore(Path(recipe.store))
    assert sum(image_id.startswith("dev-") for image_id in store.ids) == 4


def test_dev_photos_are_not_opened_where_their_embeddings_are_stored(world, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("a photo was captioned")

    monkeypatch.setattr(dev_split, "open_photos", fail)
    _, log = train_small(small(PAPER[0], world), tmp_path)
    assert "flickr8k CIDEr" in log[-1]


def test_a_rate_for_the_encoder_contradicts_a_store(world, tmp_path):
    recipe = small(PAPER[0], world, "train.lr_encoder=1e-4")
    with pytest.raises(InputError, match=r"lr_encoder would change the encoder"):
        caption_recipe(recipe, RunFolder(tmp_path, recipe), Watch())
