"""Small ClipCap models and batches for tests."""

import torch
from torch import nn

from prefixcap.config import (
    EncoderConfig,
    LanguageModelConfig,
    MapperConfig,
    ModelConfig,
    PreprocessConfig,
    ResNetConfig,
)
from prefixcap.model import CaptionBatch, ClipCap
from prefixcap.tokenizer import IGNORED, CaptionTokenizer, train_bpe

VOCABULARY = 270
WIDTH = 32
EMBEDDING_DIM = 24
CAPTIONS = ["a dog runs on the grass.", "two dogs play.", "the dog is in the water.", "a man."]
RESNET = EncoderConfig(
    kind="resnet",
    output="patches",
    stored=True,
    preprocess=PreprocessConfig(crop_px=32, resize_px=32),
    resnet=ResNetConfig(stem_width=4, widths=(4, EMBEDDING_DIM), depths=(1, 1)),
)


def tiny_tokenizer() -> CaptionTokenizer:
    """Byte-level BPE of 270 tokens."""
    return train_bpe(CAPTIONS, VOCABULARY)


def tiny_lm(**changes: object) -> LanguageModelConfig:
    """Two layers of 32, trained and stored."""
    sizes = {"width": WIDTH, "layers": 2, "heads": 4, "positions": 64, "vocabulary": VOCABULARY}
    return LanguageModelConfig(**{"frozen": False, **sizes, **changes})


def tiny_config(**changes: object) -> ModelConfig:
    """A transformer mapper of two layers and prefix 3, in front of `tiny_lm`."""
    values = {
        "encoder": EncoderConfig(kind="clip", name="openai/clip-vit-base-patch32"),
        "embedding_dim": EMBEDDING_DIM,
        "mapper": MapperConfig(prefix_length=3, clip_length=2, layers=2, heads=4),
        "language_model": tiny_lm(),
    }
    return ModelConfig(**{**values, **changes})


def tiny_model(**changes: object) -> ClipCap:
    """Model of `tiny_config` with reproducible random weights, large enough to tell them apart."""
    torch.manual_seed(0)
    model = ClipCap.build(tiny_config(**changes), tiny_tokenizer())
    for parameter in model.lm.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return model


def tiny_batch(images: int = 3) -> CaptionBatch:
    """Seven captions of 1 to 9 tokens of the images 0 and 2; image 1 has none."""
    generator = torch.Generator().manual_seed(1)
    lengths, rows = [4, 9, 2, 6, 1, 3, 5], [0, 0, 0, 2, 2, 2, 2]
    ids = torch.full((len(lengths), max(lengths)), IGNORED)
    for caption, length in enumerate(lengths):
        ids[caption, :length] = torch.randint(0, VOCABULARY, (length,), generator=generator)
    embeddings = torch.randn(images, EMBEDDING_DIM, generator=generator)
    return CaptionBatch(embeddings, ids, torch.tensor(rows))
