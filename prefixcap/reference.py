"""Checkpoints of the original ClipCap code, read as models of this one.

github.com/rmokady/CLIP_prefix_caption saves the state dict of a whole GPT-2 (`gpt.*`) and a mapper
(`clip_project.*`). Sizes follow from names and shapes, all but the number of attention heads.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from prefixcap.config import (
    DecodeOptions,
    EncoderConfig,
    LanguageModelConfig,
    MapperConfig,
    ModelConfig,
    explain,
)
from prefixcap.errors import InputError
from prefixcap.model import ClipCap
from prefixcap.model_files import copy_into, stored_tensors
from prefixcap.tensor_files import read_tensors
from prefixcap.tokenizer import CaptionTokenizer

GPT2_SMALL_HEADS = 12
MAPPER_HEADS = 8  # the original's TransformerMapper has no other number
GPT2_NAME = "openai-community/gpt2"  # whose tokenizer the original uses
DECODING = DecodeOptions(beam_size=5, stop="word")  # the original's notebook; 67 tokens at most
BUFFERS = re.compile(r"gpt\.transformer\.h\.\d+\.attn\.(bias|masked_bias)")
ORIGINAL_NAMES = {  # what our names begin with, per mapper, and what the original's do
    "mlp": (("mapper.hidden.", "clip_project.model.0."), ("mapper.out.", "clip_project.model.2.")),
    "linear": (("mapper.linear.", "clip_project."),),
    "transformer": (
        ("mapper.layers.", "clip_project.transformer.layers."),
        ("mapper.", "clip_project."),
    ),
}


def import_checkpoint(
    path: str | Path,
    encoder: EncoderConfig,
    *,
    heads: int = GPT2_SMALL_HEADS,
    tokenizer: CaptionTokenizer | None = None,
) -> ClipCap:
    """Model in evaluation mode, float32, with the weights of an original checkpoint.

    Args:
        path: file that the original's train.py saved, or one of its released weights.
        encoder: what it was trained with, and whether the embeddings were normalised; neither can
            be found from the file.
        heads: attention heads of its GPT-2, which cannot be found either; GPT-2 small has 12.
        tokenizer: of its GPT-2; None is GPT-2's own by hub name.

    Raises:
        InputError: the file is missing, cut off or something else; a tensor is missing or does not
            fit; `heads` does not divide the width.
    """
    found = _read(Path(path))
    try:
        config = _config(found, encoder, heads, path)
    except ValidationError as error:
        raise InputError(f"{path}: sizes no ClipCap has: {explain(error)}") from error
    if tokenizer is None:
        tokenizer = CaptionTokenizer.from_pretrained(GPT2_NAME)
    model = ClipCap.build(config, tokenizer)
    head, words = found.pop("gpt.lm_head.weight", None), found["gpt.transformer.wte.weight"]
    if head is not None and not torch.equal(head, words):
        raise InputError(
            f"{path}: gpt.lm_head.weight differs from gpt.transformer.wte.weight, GPT-2 ties them; "
            "expected a checkpoint of the original ClipCap"
        )
    parts = nn.ModuleDict({"mapper": model.mapper, "lm": model.lm})
    wanted = {
        _original_name(name, config.mapper.kind): tensor
        for name, tensor in stored_tensors(parts).items()
    }
    copy_into(wanted, found, path)
    return model.eval()


def _read(path: Path) -> dict[str, Tensor]:
    """State dict in `path` without the buffers of old transformers versions; executes nothing."""
    found = read_tensors(path)
    return {name: tensor for name, tensor in found.items() if not BUFFERS.fullmatch(name)}


def _original_name(name: str, kind: str) -> str:
    """What the original calls the tensor that is `name` here, with a mapper of this kind."""
    for ours, originals in (("lm.", "gpt."), *ORIGINAL_NAMES[kind]):
        if name.startswith(ours):
            return originals + name.removeprefix(ours)
    return name


def _config(
    found: Mapping[str, Tensor], encoder: EncoderConfig, heads: int, path: str | Path
) -> ModelConfig:
    """Settings of the model whose tensors are `found`."""
    vocabulary, width = _shape(found, "gpt.transformer.wte.weight", path)
    positions, _ = _shape(found, "gpt.transformer.wpe.weight", path)
    mapper, embedding_dim = _mapper(found, width, path)
    return ModelConfig(
        encoder=encoder,
        embedding_dim=embedding_dim,
        mapper=mapper,
        language_model=LanguageModelConfig(
            frozen=False,
            stored=True,
            width=width,
            layers=_layers(found, "gpt.transformer.h."),
            heads=heads,
            positions=positions,
            vocabulary=vocabulary,
        ),
        end_token=False,
        decoding=DECODING,
    )


def _mapper(found: Mapping[str, Tensor], width: int, path: str | Path) -> tuple[MapperConfig, int]:
    """Settings of the mapper among the tensors `found`, and the width of its embeddings."""
    if "clip_project.prefix_const" in found:
        length, _ = _shape(found, "clip_project.prefix_const", path)
        projected, dim = _shape(found, "clip_project.linear.weight", path)
        return MapperConfig(
            kind="transformer",
            prefix_length=length,
            clip_length=projected // width,
            layers=_layers(found, "clip_project.transformer.layers."),
            heads=MAPPER_HEADS,
        ), dim
    if "clip_project.model.0.weight" in found:
        hidden, dim = _shape(found, "clip_project.model.0.weight", path)
        out, _ = _shape(found, "clip_project.model.2.weight", path)
        return MapperConfig(kind="mlp", prefix_length=out // width, hidden_dim=hidden), dim
    out, dim = _shape(found, "clip_project.weight", path)
    return MapperConfig(kind="linear", prefix_length=out // width), dim


def _shape(found: Mapping[str, Tensor], name: str, path: str | Path) -> tuple[int, int]:
    """Shape of a matrix that every checkpoint of this kind has."""
    if name not in found or found[name].dim() != 2:
        raise InputError(
            f"{path}: has no matrix {name}; expected a checkpoint of the original ClipCap, with "
            "gpt.* and clip_project.*"
        )
    rows, columns = found[name].shape
    return rows, columns


def _layers(found: Mapping[str, Tensor], prefix: str) -> int:
    """Number of layers named `prefix` and their place."""
    numbers = {name.removeprefix(prefix).split(".")[0] for name in found if name.startswith(prefix)}
    return len(numbers)
