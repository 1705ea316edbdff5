"""Settings that a recipe leaves out, as in the model that it starts from."""

from collections.abc import Iterable
from typing import Any

from prefixcap.config import LanguageModelConfig, MapperConfig, ModelConfig
from prefixcap.errors import InputError

MAPPER_SIZES = ("prefix_length", "layers", "heads")
LM_SIZES = ("width", "layers", "heads", "positions", "vocabulary")
WEIGHTS_DEPEND_ON = {
    "mapper": ("kind", "clip_length", "hidden_dim", *MAPPER_SIZES),
    "language_model": ("name", "revision", *LM_SIZES),
}


def completed(tables: dict[str, Any], start: ModelConfig) -> dict[str, Any]:
    """Tables of a recipe, with what they leave out as in the model that it starts from.

    A table that is not there is the model's; one that is takes from it what the weights depend on,
    and all else, such as dropout, has its usual default.
    """
    names = ["encoder"]
    if start.lstm is None and "lstm" not in tables:
        names += ["mapper", "language_model"]
    elif start.lstm is not None and not {"mapper", "language_model"} & tables.keys():
        names += ["lstm"]
    filled = dict(tables)
    for name in names:
        values, said = getattr(start, name).model_dump(mode="json"), tables.get(name)
        if said is None:
            filled[name] = values
        elif isinstance(said, dict):
            filled[name] = {key: values[key] for key in _taken_keys(name, said, values)} | said
    return filled


def _taken_keys(name: str, said: dict[str, Any], values: dict[str, Any]) -> Iterable[str]:
    """Which `values` of a model's table one of a recipe takes over, if it does not say them."""
    if name == "encoder" and "kind" not in said:
        return values.keys()
    if said.get("kind", values.get("kind")) != values.get("kind"):
        return ()
    keys = WEIGHTS_DEPEND_ON.get(name, ())
    if name == "language_model" and said.get("frozen", True):
        return (*keys, "stored")  # weights that an earlier run trained have no name to be found by
    return keys


def refuse_other_sizes(
    mapper: MapperConfig, language_model: LanguageModelConfig, start: ModelConfig
) -> None:
    """Raise where the weights of the model to start from do not fit a recipe.

    No shape of a weight tells the number of heads; other sizes would fail later, in many words.

    Raises:
        InputError: in mapper or language model, with what both say.
    """
    pairs: list[tuple[str, MapperConfig | LanguageModelConfig, Any]] = []
    if start.mapper and mapper.kind == start.mapper.kind == "transformer":
        pairs += [(f"mapper.{key}", mapper, start.mapper) for key in MAPPER_SIZES]
    if start.language_model and not language_model.name and not start.language_model.name:
        here, there = language_model, start.language_model
        pairs += [(f"language_model.{key}", here, there) for key in LM_SIZES]
    for name, here, there in pairs:
        found, expected = (getattr(part, name.partition(".")[2]) for part in (here, there))
        if found != expected:
            raise InputError(
                f"{name} is {found}, the model in start_from has {expected}, and its weights mean "
                "nothing with another number; leave it out"
            )
