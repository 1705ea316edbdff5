"""Cases computed by the original ClipCap code, as the tests use them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models
from torch import Tensor

from prefixcap.config import EncoderConfig
from prefixcap.model import ClipCap
from prefixcap.reference import import_checkpoint
from prefixcap.tokenizer import IGNORED, CaptionTokenizer
from tests.conftest import folder_from

GOLDEN_FOLDER = folder_from("PREFIXCAP_GOLDEN", "../shared/golden")
NAMES = sorted(path.stem for path in GOLDEN_FOLDER.glob("*.json"))


@dataclass(frozen=True)
class GoldenCase:
    """One case: its checkpoint, settings with results, and tensors."""

    checkpoint: Path
    settings: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, folder: Path, name: str) -> "GoldenCase":
        """The case `name` in `folder`."""
        settings = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / f"{name}.safetensors")
        return cls(folder / f"{name}.pt", settings, tensors)

    def model(self) -> ClipCap:
        """The checkpoint, imported."""
        gpt2 = self.settings["gpt2"]
        encoder = EncoderConfig(kind="clip", name="ViT-B/32", normalize=self.settings["normalize"])
        return import_checkpoint(
            self.checkpoint,
            encoder,
            heads=gpt2["n_head"],
            tokenizer=numbered_tokenizer(gpt2["vocab_size"]),
        )

    def embeddings(self) -> Tensor:
        """Embeddings (B, D) float32 as the mapper gets them."""
        raw = self.tensors["embeddings"]
        return raw / raw.norm(dim=-1, keepdim=True) if self.settings["normalize"] else raw


def numbered_tokenizer(size: int) -> CaptionTokenizer:
    """Tokenizer whose words are the numbers 0..size-1."""
    return CaptionTokenizer(Tokenizer(models.WordLevel({str(n): n for n in range(size)})), None)


def targets(tokens: Tensor) -> Tensor:
    """Ids (B, T) with IGNORED for the padding, which the original's files mark by token 0."""
    return torch.where(tokens == 0, IGNORED, tokens)
