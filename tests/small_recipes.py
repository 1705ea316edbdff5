"""Published recipes made small enough to train in tests."""

import json
from collections.abc import Sequence
from pathlib import Path

from prefixcap.caption_stage import caption_recipe
from prefixcap.recipe import Recipe, load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch, embed_recipe
from tests.source_tree import REPOSITORY


def recipes_in(folders: Sequence[str]) -> list[Path]:
    """Recipe files of some folders."""
    return sorted(p for name in folders for p in (REPOSITORY / "recipes" / name).glob("*.toml"))


def name_of(path: Path) -> str:
    """Folder and name of a recipe."""
    return f"{path.parent.name}/{path.stem}"


def checked_header(path: Path) -> str:
    """Comment above a recipe, which has to say all that such a comment says."""
    header = path.read_text(encoding="utf-8").split("\nname =")[0]
    for said in ("Command:", "Cost:", "Expected:", "Reached:", f"recipes/{name_of(path)}.toml"):
        assert said in header
    return header


def small_recipe(path: Path, world: Path, settings: Sequence[str]) -> Recipe:
    """The recipe with these settings, for one epoch over the photos in `world`/data."""
    source = f'format="flickr8k", path="{world}/data"'
    small = [
        f'data=[{{{source}, split="train"}}]',
        f'dev=[{{{source}, split="dev", first=4}}]',
        "train.images_per_step=8",
        "train.epochs=1",
        "train.log_steps=1",
        "train.lr=1e-2",
        "train.threads=1",
        "decoding.max_tokens=5",
    ]
    return load_recipe(path, [*small, *settings])


def train_small(recipe: Recipe, runs: Path) -> tuple[Path, list[dict]]:
    """The run's folder and the lines of its log; the store is made first."""
    if recipe.store:
        assert embed_recipe(recipe, Watch()) == []
    run = RunFolder(runs / recipe.name, recipe)
    caption_recipe(recipe, run, Watch())
    lines = (run.path / "log.jsonl").read_text().splitlines()
    return run.path, [json.loads(line) for line in lines]
