"""The encoder that a recipe means: by name, of an earlier run, or of the model it starts from."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from prefixcap.captioner import load_model
from prefixcap.config import EncoderConfig
from prefixcap.encoder import ImageEncoder, StatedEncoder, build_encoder, load_encoder
from prefixcap.errors import InputError
from prefixcap.hub import looks_local
from prefixcap.model_files import ENCODER_CONFIG_FILE, WEIGHTS_FILE, open_model
from prefixcap.recipe import Recipe, expand


def recipe_encoder(
    recipe: Recipe, earlier: ImageEncoder | None, dtype: torch.dtype = torch.float32
) -> ImageEncoder:
    """The recipe's encoder; its settings say `stored` where no name leads to what it will be.

    Its weights are those of `encoder_from`, else of the model that the recipe starts from
    (`earlier`, where that holds its encoder), else those that it is named after, in `dtype`. They
    are random only for one that is trained here from the start.

    Raises:
        InputError: weights are not there or do not fit, would stay random, or are to be trained
            where only their width is stated.
    """
    config, trains = found_by_name(recipe.encoder), recipe.train.lr_encoder is not None
    if config.stated_dim:
        if trains:
            raise InputError(
                f"recipe {recipe.name}: train.lr_encoder would train an encoder of which only the "
                "width is stated (encoder.stated_dim); leave one of them out"
            )
        return StatedEncoder(config)
    if recipe.encoder_from:
        folder = expand(recipe.encoder_from)
        encoder = build_encoder(config, _file(folder, ENCODER_CONFIG_FILE))
        start_from(encoder, recipe.encoder_from)
        return _stored(encoder)
    if earlier is not None and is_meant(config, earlier.config):
        return _stored(_taken_over(recipe, earlier))
    is_named = bool(config.name) and not config.is_trained_here
    if is_named or not config.stored:
        encoder = load_encoder(config, dtype=dtype)
    else:
        _refuse_random(recipe)
        encoder = build_encoder(config)
    return _stored(encoder) if trains and recipe.stage == "caption" else encoder


def encoder_of_store(recipe: Recipe, dtype: torch.dtype = torch.float32) -> ImageEncoder:
    """The encoder whose vectors the recipe's store holds, in evaluation mode.

    `dtype` is that of an encoder by name; one that an earlier run trained stays in float32.

    Raises:
        InputError: its weights are to come from an earlier run, and the recipe names none.
    """
    if recipe.distill:
        teacher = found_by_name(recipe.distill.teacher)
        return StatedEncoder(teacher) if teacher.stated_dim else load_encoder(teacher, dtype=dtype)
    return recipe_encoder(recipe, _earlier_encoder(recipe), dtype).eval()


def found_by_name(config: EncoderConfig) -> EncoderConfig:
    """Settings of an encoder with the environment variables of its name filled in."""
    return config.model_copy(update={"name": str(expand(config.name)) if config.name else ""})


def is_meant(config: EncoderConfig, earlier: EncoderConfig) -> bool:
    """Whether a recipe's encoder is that of the earlier model, tuned there.

    Folders and files may move: one that is not there any more is known by its last name.

    Raises:
        InputError: what is there has that last name too, and may be it or another.
    """
    if config.is_trained_here:
        return True
    if config.kind != earlier.kind:
        return False
    here, there = Path(config.name), Path(earlier.name)
    if not config.name or here == there or here.resolve() == there.resolve():
        return True
    is_path = looks_local(config.name)
    if here.name != there.name or not (is_path or looks_local(earlier.name)):
        return False
    if is_path and not here.exists():
        return True
    raise InputError(
        f"encoder.name is {config.name}, and the model in start_from holds {earlier.name}, "
        f'which may be another. To go on from that, write encoder.name = "{earlier.name}"; to '
        "begin with yours, give it another name (a link will do)"
    )


def start_from(encoder: nn.Module, folder: str) -> None:
    """Fill an encoder with that of an earlier distillation or model; "" leaves it as it is.

    Raises:
        InputError: the run has no encoder, or one of other sizes.
    """
    if not folder:
        return
    places = [expand(folder) / name for name in ("encoder.safetensors", WEIGHTS_FILE)]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise InputError(f"{places[0]}: is not there. Train that run first: prefixcap train RECIPE")
    tensors = {
        name.removeprefix("encoder."): tensor.float()
        for name, tensor in load_file(path).items()
        if name.startswith("encoder.")
    }
    _fill(encoder, tensors, str(path))


def _earlier_encoder(recipe: Recipe) -> ImageEncoder | None:
    """Encoder of the model that the recipe starts from, None where that does not hold it.

    A recipe whose encoder has a name can be embedded before that model is trained; training then
    compares the store with what became of it.
    """
    if not recipe.start_from or recipe.encoder_from:
        return None
    folder = expand(recipe.start_from, "start_from")
    try:
        found = open_model(str(folder))
    except InputError:
        if recipe.encoder.name and not recipe.encoder.stored:
            return None
        raise
    return load_model(folder).encoder if found.config.encoder.stored else None


def _taken_over(recipe: Recipe, earlier: ImageEncoder) -> ImageEncoder:
    """The recipe's encoder with the weights of the model in its `start_from`.

    What photos go through and what is taken from the network are the recipe's own settings.

    Raises:
        InputError: it has other sizes.
    """
    config = found_by_name(recipe.encoder)
    if config.is_trained_here:
        encoder = build_encoder(config)
        _fill(encoder, earlier.state_dict(), recipe.start_from)
        return encoder
    preprocess = config.preprocess or earlier.config.preprocess
    return ImageEncoder(config.model_copy(update={"preprocess": preprocess}), earlier.network)


def _refuse_random(recipe: Recipe) -> None:
    """Raise where an encoder without weights is not trained either."""
    if recipe.store:
        raise InputError(
            f"recipe {recipe.name}: its store would hold vectors of random weights; name a "
            "distillation in encoder_from, or a model in start_from"
        )
    if recipe.stage == "caption" and recipe.train.lr_encoder is None:
        raise InputError(
            f"recipe {recipe.name}: its encoder would stay random; name a distillation in "
            "encoder_from, a model in start_from, or train it with train.lr_encoder"
        )


def _stored(encoder: ImageEncoder) -> ImageEncoder:
    """The encoder, to be stored with its model."""
    encoder.config = encoder.config.model_copy(update={"stored": True})
    return encoder


def _file(folder: Path, name: str) -> Path | None:
    """A file of a folder, None where it is not there."""
    return folder / name if (folder / name).exists() else None


def _fill(encoder: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Load `tensors` into the encoder; `origin` is named where they do not fit."""
    try:
        encoder.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{origin}: does not fit this recipe's encoder ({reason})") from error
