"""Studies: one TOML file that says which recipe is run with which changes and seeds."""

import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from prefixcap.config import Settings, parse, read_toml
from prefixcap.errors import InputError
from prefixcap.recipe import Recipe, load_recipe

METRICS = ("bleu", "meteor", "rouge", "cider", "spice")


class Setting(Settings):
    """One place on an axis: its name, the `--set` assignments that make it, another recipe."""

    name: str = Field(min_length=1)
    set: tuple[str, ...] = ()
    recipe: str = ""


class Axis(Settings):
    """What is varied: named settings (`values`), or numbers that take the place of {} in `set`."""

    name: str = Field(min_length=1)
    unit: str = ""
    set: tuple[str, ...] = ()
    numbers: tuple[int | float, ...] = ()
    values: tuple[Setting, ...] = ()

    @model_validator(mode="after")
    def _has_values_of_one_kind(self) -> Self:
        if bool(self.numbers) == bool(self.values) or bool(self.numbers) != bool(self.set):
            raise ValueError(
                f'axis "{self.name}" needs either values, or numbers and what they set, such as '
                'set = ["train.lr={}"]'
            )
        return self


class FigureSettings(Settings):
    """The study's figure; see docs/studies.md for the kinds."""

    kind: Literal["bars", "lines", "epochs"] = "bars"
    metric: str = "CIDEr"
    x: str = ""  # axis of numbers, for "lines"


class Study(Settings):
    """A whole study: every combination of the axes' settings, with every seed."""

    name: str
    title: str
    recipe: str  # path beside the study's file
    set: tuple[str, ...] = ()  # assignments that hold for all variants
    axes: tuple[Axis, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    split: Literal["dev", "test"] = "dev"
    train_images: int = Field(0, ge=0)  # first training photos that are scored too
    metrics: tuple[str, ...] = ("bleu", "rouge", "cider")
    tokenizer: Literal["ptb", "stanford", "none"] = "ptb"
    figure: FigureSettings = FigureSettings()

    @field_validator("metrics")
    @classmethod
    def _are_metrics(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        unknown = set(metrics) - set(METRICS)
        if unknown:
            raise ValueError(f"{sorted(unknown)} are no metrics; expected of {', '.join(METRICS)}")
        return metrics

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for names in ([axis.name for axis in self.axes], self.seeds):
            if len(set(names)) < len(names):
                raise ValueError(f"{list(names)}: expected axes and seeds that differ")
        numbers = [axis.name for axis in self.axes if axis.numbers]
        if self.figure.kind == "lines" and self.figure.x not in numbers:
            raise ValueError(
                f'figure.x is "{self.figure.x}"; a figure of lines needs an axis of numbers: '
                f"{numbers}"
            )
        return self


@dataclass(frozen=True)
class Variant:
    """One combination of settings.

    Attributes:
        name: unique within the study.
        settings: axis name -> name of the setting, or number.
        recipe: path beside the study's file.
        overrides: `--set` assignments on that recipe.
    """

    name: str
    settings: dict[str, str | int | float]
    recipe: str
    overrides: tuple[str, ...]

    @property
    def slug(self) -> str:
        """The name as part of a folder's name."""
        return re.sub(r"[^A-Za-z0-9._]+", "-", self.name).strip("-.") or "variant"


@dataclass(frozen=True)
class PlannedRun:
    """One training run of a study; its name is that of its folder."""

    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return f"{self.variant.slug}-seed{self.seed}"

    def load(self, study_file: Path) -> Recipe:
        """The recipe that is run.

        Raises:
            InputError: it cannot be read, an override does not fit, or nothing of it is scored.
        """
        path = study_file.parent / self.variant.recipe
        ours = [f"train.seed={self.seed}", f'name="{self.name}"']
        recipe = load_recipe(path, [*self.variant.overrides, *ours])
        if recipe.stage != "caption":
            raise InputError(
                f"{path}: trains the stage {recipe.stage!r}, which writes no captions to score; "
                "a study varies recipes of the stage 'caption'"
            )
        return recipe


def load_study(path: Path, overrides: list[str] | None = None) -> Study:
    """Study read from TOML; `overrides` are assignments that every run gets.

    Raises:
        InputError: the file cannot be read, a key is unknown or of a wrong type, or two variants
            have the same name.
    """
    study = parse(Study, read_toml(path, "a study, see recipes/studies/"), str(path))
    study = study.model_copy(update={"set": (*study.set, *(overrides or []))})
    slugs: dict[str, str] = {}
    for variant in variants(study):
        if variant.slug.lower() in slugs:
            raise InputError(
                f'{path}: the variants "{slugs[variant.slug.lower()]}" and "{variant.name}" would '
                "have one folder; name them so that letters or digits differ"
            )
        slugs[variant.slug.lower()] = variant.name
    return study


def variants(study: Study) -> list[Variant]:
    """Every combination of the axes' settings; the last axis changes fastest."""
    places = [_settings(axis) for axis in study.axes]
    found = []
    for combination in product(*places):
        recipes = [setting.recipe for _, setting in combination if setting.recipe]
        found.append(
            Variant(
                ", ".join(setting.name for _, setting in combination),
                {
                    axis.name: value
                    for axis, (value, _) in zip(study.axes, combination, strict=True)
                },
                recipes[-1] if recipes else study.recipe,
                (*(text for _, setting in combination for text in setting.set), *study.set),
            )
        )
    return found


def planned_runs(study: Study) -> list[PlannedRun]:
    """Every run, seed by seed, so that a study that was stopped has something of all variants."""
    return [PlannedRun(variant, seed) for seed in study.seeds for variant in variants(study)]


def _settings(axis: Axis) -> list[tuple[str | int | float, Setting]]:
    """Value in the results, and setting, of each place on an axis."""
    if axis.values:
        return [(setting.name, setting) for setting in axis.values]
    return [
        (number, Setting(name=f"{axis.name} {number}", set=_with_number(axis.set, number)))
        for number in axis.numbers
    ]


def _with_number(assignments: tuple[str, ...], number: int | float) -> tuple[str, ...]:
    """Assignments with a number in place of {}."""
    return tuple(text.replace("{}", str(number)) for text in assignments)
