"""A model soup: one captioner whose weights are the mean of several's (Wortsman et al. 2022)."""

from collections.abc import Sequence
from pathlib import Path

import torch

from prefixcap.captioner import CaptionModel, load_model
from prefixcap.config import ModelConfig
from prefixcap.errors import InputError

# Settings of how captions are written and photos looked at, not of what the weights mean.
MAY_DIFFER = {"decoding": True, "calibration": True, "encoder": {"mirrored"}}


def soup(names: Sequence[str | Path]) -> CaptionModel:
    """Captioner with the mean weights of those in `names`, and the settings of the first.

    It pays where one was trained on from another: their mean is then as good a model as they are,
    or a better one, at the cost of one (section 3). Means of models that began apart are worthless.

    Raises:
        InputError: a model is missing, of other settings, or of another vocabulary.
    """
    mean = load_model(names[0])
    weights = mean.state_dict()
    totals = {name: tensor.double() for name, tensor in weights.items()}
    for other_name in names[1:]:
        other = load_model(other_name)
        _check_alike(mean, names[0], other, other_name)
        for name, tensor in other.state_dict().items():
            totals[name] += tensor
    with torch.no_grad():
        for name, tensor in weights.items():
            tensor.copy_(totals[name] / len(names))
    return mean


def _check_alike(
    first: CaptionModel, first_name: str | Path, other: CaptionModel, other_name: str | Path
) -> None:
    """Raise where the weights of two models do not mean the same."""
    ours, theirs = _settings(first.config), _settings(other.config)
    if ours != theirs:
        differ = [key for key, value in ours.items() if theirs[key] != value]
        raise InputError(
            f"{other_name}: differs from {first_name} in {', '.join(differ)}; average models that "
            "were trained on from one another"
        )
    if not other.tokenizer.has_words_of(first.tokenizer):
        raise InputError(
            f"{other_name}: has another vocabulary than {first_name}; average models that were "
            "trained on from one another"
        )


def _settings(config: ModelConfig) -> dict[str, object]:
    """Settings that the weights depend on."""
    return config.model_dump(mode="json", exclude=MAY_DIFFER)
