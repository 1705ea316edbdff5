"""Tiny encoders of every kind, as their authors save them, for the tests."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    PreTrainedModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from prefixcap.clip_resnet import ClipResNet, ClipResNetSizes
from prefixcap.errors import InputError

VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 50}
TEXT |= {"num_attention_heads": 2, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1}
SQUARE = {"height": 32, "width": 32}
RESNET = ClipResNetSizes(layers=(1, 2, 1, 1), width=4, heads=2, image_size=64, embedding_dim=10)


def clip_processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE)


def full_clip() -> CLIPModel:
    # The projection's width differs from the vision part's default, 512, as in ViT-L/14.
    return CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=24))


def noisy(model: PreTrainedModel) -> PreTrainedModel:
    """A model with every weight away from its default, norms and biases included."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def save_clip(folder: Path) -> Path:
    """The folder, with a tiny CLIP in it as transformers saves it."""
    noisy(full_clip()).save_pretrained(folder)
    clip_processor().save_pretrained(folder)
    return folder


def photos() -> list[Image.Image]:
    """Images of several shapes."""
    rng = np.random.default_rng(0)
    shapes = [(40, 50), (33, 32), (90, 30), (32, 32)]
    return [Image.fromarray(rng.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in shapes]


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def clip_resnet() -> ClipResNet:
    """A small CLIP ResNet with every weight and statistic away from its default."""
    torch.manual_seed(0)
    network = ClipResNet(RESNET).eval()
    for name, tensor in network.state_dict().items():
        if "running" in name or "bn" in name:
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return network


def visual(network: ClipResNet) -> dict[str, Tensor]:
    """Weights under OpenAI's names."""
    return {f"visual.{name}": tensor.clone() for name, tensor in network.state_dict().items()}


def write_torchscript(network: ClipResNet, path: Path) -> None:
    """A whole model with a `visual` part, traced, as OpenAI released CLIP."""
    whole = torch.nn.Module()
    whole.visual = network
    whole.forward = lambda pixels: network(pixels)[0]
    pixels = torch.zeros(1, 3, 64, 64, dtype=network.conv1.weight.dtype)
    torch.jit.save(torch.jit.trace(whole, pixels), path)


def check_refusals(network: type, cases: Mapping[str, Mapping[str, Tensor]]) -> None:
    """A network refuses the tensors of each case with the message that they stand under."""
    for message, tensors in cases.items():
        with pytest.raises(InputError, match=message):
            network.from_tensors(tensors, "x")
