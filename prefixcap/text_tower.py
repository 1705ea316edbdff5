"""Captions to vectors in the space of CLIP's or SigLIP's image embeddings, by their text towers."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    CLIPTextModelWithProjection,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SiglipTextModel,
)

from prefixcap.config import EncoderConfig
from prefixcap.errors import InputError
from prefixcap.frozen_layers import hasten
from prefixcap.hub import model_file, model_folder
from prefixcap.tokenizer import TOKENIZER_FILE, TOKENIZER_FILES
from prefixcap.transformer_encoders import load_whole, read_config

BATCH = 128  # captions at a time
SENTENCEPIECE_FILE = "spiece.model"  # SigLIP's, where there is no tokenizer.json
MODEL_CLASSES: dict[str, type[PreTrainedModel]] = {
    "clip": CLIPTextModelWithProjection,
    "siglip": SiglipTextModel,
}


class TextTower:
    """The text half of a CLIP or SigLIP, with its tokenizer."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        hasten(model)
        self.model = model
        self.tokenizer = tokenizer
        self.context: int = model.config.max_position_embeddings
        self.is_siglip = isinstance(model, SiglipTextModel)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (B, D) float32 of texts, on the model's device, not normalised.

        A text longer than the context keeps its beginning and the end token, as in OpenAI's
        `clip.tokenize(truncate=True)`.
        """
        different = sorted(set(texts), key=lambda text: (len(text), text))  # little padding
        place = {text: number for number, text in enumerate(different)}
        parts = [
            self._embeddings(different[start : start + BATCH])
            for start in range(0, len(different), BATCH)
        ]
        return torch.cat(parts)[[place[text] for text in texts]]

    def _embeddings(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (B, D) float32 of one batch."""
        # SigLIP was trained on lower-case texts, all padded to the whole context without a mask.
        tokens = self.tokenizer(
            [text.lower() for text in texts] if self.is_siglip else list(texts),
            padding="max_length" if self.is_siglip else True,
            truncation=True,
            max_length=self.context,
            return_tensors="pt",
        ).to(self.model.device)
        if self.is_siglip:
            return self.model(input_ids=tokens.input_ids).pooler_output.float()
        found = self.model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        return found.text_embeds.float()


def load_text_tower(
    config: EncoderConfig,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> TextTower:
    """Text tower beside the image encoder that `config` names.

    Raises:
        InputError: an encoder without one, or a file of it is missing or does not fit.
    """
    if config.kind not in MODEL_CLASSES:
        raise InputError(
            f"{config.name}: an encoder of kind {config.kind} has no text tower that can be read; "
            "give a CLIP ViT or SigLIP, such as ViT-B/32"
        )
    folder = model_folder(config.name, config.revision)
    whole = read_config(folder, config.name)
    model = load_whole(
        MODEL_CLASSES[config.kind], folder, _text_config(whole, config.name), config.name
    )
    tower = TextTower(model.requires_grad_(False), _tokenizer(config, folder))
    model.to(device=device, dtype=dtype)
    return tower


def _text_config(whole: PretrainedConfig, name: str) -> PretrainedConfig:
    """Sizes of the text tower, from the configuration of the whole model.

    Raises:
        InputError: the model is an image encoder alone.
    """
    if not hasattr(whole, "text_config"):
        raise InputError(
            f"{name}: is of type {whole.model_type!r}, an image encoder without its text tower; "
            "give the whole CLIP or SigLIP"
        )
    if whole.model_type == "clip":
        # The width of the projection is set in the outer part; the inner may hold a default.
        whole.text_config.projection_dim = whole.projection_dim
    return whole.text_config


def _tokenizer(config: EncoderConfig, folder: Path) -> PreTrainedTokenizerBase:
    """Tokenizer of the model in `folder`; files of a hub model are fetched into it."""
    names = (*TOKENIZER_FILES, SENTENCEPIECE_FILE)
    found = {name: model_file(config.name, name, config.revision) for name in names}
    if not any(found[name] for name in (TOKENIZER_FILE, "vocab.json", SENTENCEPIECE_FILE)):
        raise InputError(f"{config.name}: has no tokenizer; copy its tokenizer.json into it")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{config.name}: its tokenizer cannot be read ({reason}); copy its tokenizer.json"
        ) from error
