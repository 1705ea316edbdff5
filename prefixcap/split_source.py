"""Which split is scored: the one that is named, or the dev data of a training run's recipe."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefixcap import datasets
from prefixcap.chosen_records import chosen
from prefixcap.config import parse
from prefixcap.datasets.annotations import read_json
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError
from prefixcap.recipe import Recipe, SourceConfig, expand

DATA_VARIABLE = "PREFIXCAP_DATA"
RECIPE_FILE = "recipe.json"  # in the folder of a training run
WEIGHT_FOLDERS = ("best", "model")  # in that folder, best first
FOLDERS = {  # under PREFIXCAP_DATA, as the recipes have them; other formats: their own name
    "coco-karpathy": "coco",
    "flickr8k-karpathy": "flickr8k",
    "conceptual": "cc3m",
    "vizwiz-usable": "vizwiz",
}


@dataclass(frozen=True)
class Wanted:
    """What is said of the split to score; None is left to the run's recipe or to convention."""

    format: str | None = None
    path: Path | None = None
    split: str | None = None
    images: Path | None = None
    first: int | None = None


@dataclass(frozen=True)
class ChosenSplit:
    """A split and its records, ids as published."""

    format: str
    path: Path
    split: str | None
    images: Path | None
    records: list[CaptionRecord]

    def described(self) -> str:
        """Format, path, split and number of images, in one line."""
        split = f", split {self.split}" if self.split else ""
        return f"{self.format} {self.path}{split}, {len(self.records)} images"


def run_of(model: str) -> Path | None:
    """Folder of the training run that a run's or a weights folder belongs to, if any."""
    folder = Path(model)
    places = [folder, folder.parent] if folder.name in WEIGHT_FOLDERS else [folder]
    return next((place for place in places if (place / RECIPE_FILE).is_file()), None)


def recipe_of(run: Path) -> Recipe:
    """The recipe of a training run.

    Raises:
        InputError: its folder has none, or one of another version.
    """
    return parse(Recipe, read_json(run / RECIPE_FILE), str(run / RECIPE_FILE))


def chosen_split(wanted: Wanted, run: Path | None) -> ChosenSplit:
    """The split that is meant, read.

    What is not said comes from the run's recipe: its dev data, or another split of those. A format
    without a path is looked for in the folder that PREFIXCAP_DATA names.

    Raises:
        InputError: nothing or several splits are meant, or the data cannot be read.
    """
    source = _source(wanted, run)
    path = expand(source.path)
    images = wanted.images or (expand(source.images) if source.images else None)
    records = datasets.read(source.format, path, source.split, images)
    records = list(chosen(records, source))[: wanted.first]
    return ChosenSplit(source.format, path, source.split, images, records)


def _source(wanted: Wanted, run: Path | None) -> SourceConfig:
    """The data set that is meant."""
    if wanted.path is not None:
        if wanted.format is None:
            raise InputError(
                f"{wanted.path}: of which format? Name it, such as flickr8k or coco: --data NAME"
            )
        return SourceConfig(format=wanted.format, path=str(wanted.path), split=wanted.split)
    found = _of_recipe(wanted, run) if run is not None else None
    if found is not None:
        return found
    if wanted.format is None:
        where = f"{run}: its recipe names no dev data" if run else "no data is named"
        raise InputError(f"{where}. Name some: --data NAME, with its path behind it")
    return _of_convention(wanted.format, wanted.split)


def _of_recipe(wanted: Wanted, run: Path) -> SourceConfig | None:
    """The data of the run's recipe that is meant, None where the recipe has nothing like it."""
    try:
        recipe = recipe_of(run)
    except InputError as error:
        if wanted.format is not None:  # then the recipe is not needed
            return None
        raise InputError(f"{error}. Name the data yourself: --data NAME PATH") from error
    known = [
        source
        for source in (*recipe.dev, *recipe.data)
        if source.format != "photos" and wanted.format in (None, source.format)
    ]
    if wanted.split is None:
        return _only([source for source in known if source in recipe.dev], run)
    same = [source for source in known if source.split == wanted.split]
    if same:
        return _only(same, run)
    others = [
        SourceConfig(format=one.format, path=one.path, images=one.images, split=wanted.split)
        for one in known
    ]
    return _only(others, run)


def _only(sources: Sequence[SourceConfig], run: Path) -> SourceConfig | None:
    """The one source, None where there is none.

    Raises:
        InputError: there are several different ones.
    """
    different = list(dict.fromkeys(sources))
    if len(different) > 1:
        found = "; ".join(_shown(source) for source in different)
        raise InputError(
            f"{run}: its recipe has several such data sets: {found}. Name one: --data NAME PATH "
            "--split SPLIT"
        )
    return different[0] if different else None


def _shown(source: SourceConfig) -> str:
    """A source in a few words."""
    split = f" --split {source.split}" if source.split else ""
    return f"{source.format} {source.path}{split}"


def _of_convention(name: str, split: str | None) -> SourceConfig:
    """The data set of a format in the folder that PREFIXCAP_DATA names."""
    root = os.environ.get(DATA_VARIABLE)
    if name not in datasets.READERS:
        datasets.read(name, Path())  # says which there are
    if not root:
        raise InputError(
            f"{name}: where is it? Give its folder or annotation file behind the name, or set "
            f"{DATA_VARIABLE} to the folder that holds {FOLDERS.get(name, name)}/"
        )
    path = Path(root) / FOLDERS.get(name, name)
    if not path.exists():
        raise InputError(
            f"{path}: not there, so {name} has to be named with its path: --data {name} PATH"
        )
    return SourceConfig(format=name, path=str(path), split=split)
