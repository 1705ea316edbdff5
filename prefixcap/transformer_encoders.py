"""CLIP, SigLIP and DINOv2 vision transformers out of transformers, as networks of one protocol.

Each gives (pooled (B, D), patches (B, N, D)) from pixels (B, 3, S, S).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    CLIPVisionModelWithProjection,
    Dinov2Model,
    Dinov2WithRegistersModel,
    PretrainedConfig,
    PreTrainedModel,
    SiglipVisionModel,
)
from transformers.initialization import no_init_weights
from transformers.utils import logging

from prefixcap.errors import InputError
from prefixcap.frozen_layers import hasten
from prefixcap.hub import model_folder
from prefixcap.tensor_files import check_safetensors

MODEL_CLASSES: dict[str, type[PreTrainedModel]] = {
    "clip": CLIPVisionModelWithProjection,
    "clip_vision_model": CLIPVisionModelWithProjection,
    "siglip": SiglipVisionModel,
    "siglip_vision_model": SiglipVisionModel,
    "dinov2": Dinov2Model,
    "dinov2_with_registers": Dinov2WithRegistersModel,
}


class TransformerEncoder(nn.Module):
    """A vision transformer; what differs between the kinds is in `forward`."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        hasten(model)
        self.model = model
        config = model.config
        act = config.hidden_act
        # What changes the result and no weight's shape tells; part of the fingerprint.
        self.architecture = f"heads={config.num_attention_heads} act={act}"
        self.image_size: int | None = config.image_size

    def embedding_dim(self, output: str) -> int:
        """Width of the pooled embedding, or of a patch token where `output` is "patches"."""
        return self.model.config.hidden_size


class ClipViT(TransformerEncoder):
    """CLIP's ViT: the projected image embedding, and the patches after the last layer norm.

    CLIP trains that norm on the class token only; it is applied to the patches too, which brings
    them to the scale that the projection expects.
    """

    def embedding_dim(self, output: str) -> int:
        """Width of the pooled embedding, or of a patch token where `output` is "patches"."""
        config = self.model.config
        return config.hidden_size if output == "patches" else config.projection_dim

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled (B, projection_dim) and patches (B, N, hidden_size) from (B, 3, S, S)."""
        outputs = self.model(pixel_values=pixel_values)
        patches = outputs.last_hidden_state[:, 1:]  # without the class token
        return outputs.image_embeds, self.model.vision_model.post_layernorm(patches)


class SiglipViT(TransformerEncoder):
    """SigLIP's ViT: the attention-pooled embedding, and the normed last states (no class token)."""

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled (B, hidden_size) and patches (B, N, hidden_size) from (B, 3, S, S)."""
        outputs = self.model(pixel_values=pixel_values)
        return outputs.pooler_output, outputs.last_hidden_state


class Dinov2ViT(TransformerEncoder):
    """DINOv2's ViT: the normed class token, and the normed patches without registers."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self.image_size = None  # its position embeddings are interpolated to any size
        self.extra_tokens = 1 + getattr(model.config, "num_register_tokens", 0)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled (B, hidden_size) and patches (B, N, hidden_size) from (B, 3, S, S)."""
        outputs = self.model(pixel_values=pixel_values)
        return outputs.pooler_output, outputs.last_hidden_state[:, self.extra_tokens :]


NETWORKS: dict[str, type[TransformerEncoder]] = {
    "clip": ClipViT,
    "siglip": SiglipViT,
    "dinov2": Dinov2ViT,
}


def load_transformer(kind: str, name: str, revision: str | None) -> TransformerEncoder:
    """Network of a kind with the weights in a folder or hub repository, float32, for inference.

    Raises:
        InputError: nothing is there, it is a model of another kind, or a tensor is missing,
            truncated or of another shape; the message names it.
    """
    folder = model_folder(name, revision)
    config = _vision_config(kind, folder, name)
    return NETWORKS[kind](load_whole(MODEL_CLASSES[config.model_type], folder, config, name))


def load_whole(
    model_class: type[PreTrainedModel], folder: Path, config: PretrainedConfig, name: str
) -> PreTrainedModel:
    """Model of a class, or the part of a larger one that it is, float32, for inference.

    Raises:
        InputError: a file cannot be read, or a tensor is missing or of another shape.
    """
    for path in sorted(folder.glob("*.safetensors")):
        check_safetensors(path)
    with _quietly():
        model, info = _from_folder(model_class, folder, config, name)
    _check_loaded(info, name)
    return model.eval()


def build_transformer(kind: str, folder: Path, name: str) -> TransformerEncoder:
    """Network of a kind with random weights, of the sizes in a folder's `config.json`."""
    config = _vision_config(kind, folder, name)
    return NETWORKS[kind](MODEL_CLASSES[config.model_type](config).eval())


def transformer_of(kind: str, settings: Mapping[str, Any]) -> TransformerEncoder:
    """Network of a kind whose weights are still to come, by the settings of its own `config`.

    Raises:
        ValueError, KeyError, TypeError: they are those of another kind of model, or of none.
    """
    config = AutoConfig.for_model(**settings)
    if kind_of(config.model_type) != kind:
        raise ValueError(f"they are of type {config.model_type!r}")
    with no_init_weights():
        return NETWORKS[kind](MODEL_CLASSES[config.model_type](config).eval())


def model_type(folder: Path, name: str) -> str:
    """What a folder's `config.json` says that its model is, such as "clip".

    Raises:
        InputError: there is no such file, or it is no model configuration.
    """
    return read_config(folder, name).model_type


def kind_of(type_name: str) -> str | None:
    """Our kind of encoder for transformers' model type, None where there is none."""
    if type_name not in MODEL_CLASSES:
        return None
    return next(kind for kind in NETWORKS if type_name.startswith(kind))


def read_config(folder: Path, name: str) -> PretrainedConfig:
    """What a folder's `config.json` says.

    Raises:
        InputError: there is no such file, or it is no model configuration.
    """
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{name}: config.json is not that of a known model ({reason})") from error


def _vision_config(kind: str, folder: Path, name: str) -> PretrainedConfig:
    """Configuration of the vision part of the model in a folder.

    Raises:
        InputError: it is a model of another kind.
    """
    config = read_config(folder, name)
    if kind_of(config.model_type) != kind:
        raise InputError(
            f"{name}: is a model of type {config.model_type!r}, expected an image encoder of "
            f"kind {kind!r} (one of {', '.join(t for t in MODEL_CLASSES if kind_of(t) == kind)})"
        )
    if config.model_type == "clip":
        # The width of the projection is set in the outer part; the inner may hold a default.
        config.vision_config.projection_dim = config.projection_dim
    return getattr(config, "vision_config", config)


def _from_folder(
    model_class: type[PreTrainedModel], folder: Path, config: PretrainedConfig, name: str
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Model and transformers' account of what it found and what it missed."""
    try:
        return model_class.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported in the account, and refused here by name
        )
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name}: its weights cannot be read ({reason})") from error


def _check_loaded(info: dict[str, Any], name: str) -> None:
    """Raise where a tensor was missing or of another shape: transformers would leave it random."""
    if info["mismatched_keys"]:
        tensor, found, expected = sorted(info["mismatched_keys"])[0]
        raise InputError(
            f"{name}: tensor {tensor} is {tuple(found)}, config.json expects {tuple(expected)}"
        )
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise InputError(
            f"{name}: tensor {missing[0]} is missing ({len(missing)} in all); "
            f"the weights are not those of this model, or not all of them"
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from printing its own account and bars; ours is the InputError."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
