"""A whole captioner of a few thousand weights, and photos for it: for tests of what uses one."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from prefixcap.config import (
    DecodeOptions,
    EncoderConfig,
    LanguageModelConfig,
    MapperConfig,
    ModelConfig,
    PreprocessConfig,
    ResNetConfig,
)
from prefixcap.encoder import build_encoder
from prefixcap.model import ClipCap
from prefixcap.tokenizer import train_bpe

SIDE_PX = 32
WORDS = "dog runs on grass; two men sit by water; red car in snow; children play ball with cat"


def tiny_model(seed: int = 0, *, end_token: bool = True) -> ClipCap:
    """ClipCap with random weights, large enough to write a different caption for each photo."""
    torch.manual_seed(seed)
    encoder_config = EncoderConfig(
        kind="resnet",
        stored=True,
        preprocess=PreprocessConfig(crop_px=SIDE_PX, resize_px=SIDE_PX),
        resnet=ResNetConfig(stem_width=8, widths=(8, 16), depths=(1, 1)),
    )
    encoder = build_encoder(encoder_config)
    tokenizer = train_bpe([WORDS] * 2, 340)
    config = ModelConfig(
        encoder=encoder_config,
        embedding_dim=encoder.embedding_dim,
        mapper=MapperConfig(kind="linear", prefix_length=2),
        language_model=LanguageModelConfig(
            frozen=False,
            width=32,
            layers=2,
            heads=2,
            positions=48,
            vocabulary=tokenizer.vocabulary_size,
        ),
        end_token=end_token,
        decoding=DecodeOptions(max_tokens=8),
    )
    model = ClipCap.build(config, tokenizer)
    model.encoder = encoder
    _make_talkative(model.eval())
    return model


@torch.no_grad()
def _make_talkative(model: ClipCap) -> None:
    """Random weights such that captions are made of whole words and differ between photos."""
    for module in (model.mapper, model.lm):
        for weights in module.parameters():
            if weights.ndim > 1:
                weights.normal_(std=0.4)
    model.lm.get_input_embeddings().weight[1:257] = 0  # single bytes: nearly never the likeliest
    seen = model.encoder.encode([random_photo(np.random.default_rng(n)) for n in range(16)])
    linear = next(one for one in model.mapper.modules() if isinstance(one, torch.nn.Linear))
    linear.weight /= seen.std()
    linear.bias.copy_(-linear.weight @ seen.mean(0))


def random_photo(generator: np.random.Generator) -> Image.Image:
    """Small picture of 4 x 4 coloured squares."""
    squares = generator.integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(squares).resize((40, 36), Image.Resampling.NEAREST)


def save_tiny_model(folder: Path, seed: int = 0, *, end_token: bool = True) -> Path:
    """Model folder with `tiny_model` in it."""
    tiny_model(seed, end_token=end_token).save_pretrained(folder)
    return folder


def write_photos(folder: Path, count: int, seed: int = 0) -> Path:
    """`folder` with `count` different small pictures in two sub-folders of the same names."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number // 2:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        random_photo(generator).save(path)
    return folder
