"""A tiny CLIP and a tiny SigLIP, both halves and tokenizer, as their authors publish them."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.tiny_encoders import SQUARE, VISION, clip_processor, noisy

CONTEXT = 24
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
WORDS = ALPHABET + [f"{letter}</w>" for letter in ALPHABET]
WORDS += ["<|startoftext|>", "<|endoftext|>"]
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": len(WORDS),
    "max_position_embeddings": CONTEXT,
}


def save_whole_clip(folder: Path) -> Path:
    """`folder` with a CLIP whose tokens are single bytes."""
    ids = {word: number for number, word in enumerate(WORDS)}
    end = {"eos_token_id": ids["<|endoftext|>"], "bos_token_id": ids["<|startoftext|>"]}
    text = {**TEXT, **end, "pad_token_id": ids["<|endoftext|>"]}
    config = CLIPConfig(text_config=text, vision_config=VISION, projection_dim=20)
    torch.manual_seed(2)  # weights under which a photo is like some captions and unlike others
    noisy(CLIPModel(config)).save_pretrained(folder)
    clip_processor().save_pretrained(folder)
    CLIPTokenizer(vocab=ids, merges=[]).save_pretrained(folder)
    return folder


def save_whole_siglip(folder: Path) -> Path:
    """`folder` with a SigLIP whose tokens are lower-case letters; "</s>" ends and fills."""
    letters = [*"abcdefghijklmnopqrstuvwxyz .", "<unk>", "</s>"]
    backend = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(letters)}, unk_token="<unk>")
    )
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", letters.index("</s>"))]
    )
    vision = {key: value for key, value in VISION.items() if key != "projection_dim"}
    text = {**TEXT, "projection_size": VISION["hidden_size"], "vocab_size": len(letters)}
    config = SiglipConfig(text_config=text, vision_config=vision)
    torch.manual_seed(1)  # weights under which some captions are like their photo
    noisy(SiglipModel(config)).save_pretrained(folder)
    SiglipImageProcessorPil(size=SQUARE).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)
    return folder
