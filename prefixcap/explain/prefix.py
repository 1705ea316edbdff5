"""What a prefix says: each of its vectors named by the nearest tokens of the language model."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from prefixcap.errors import InputError
from prefixcap.model import ClipCap
from prefixcap.tokenizer import CaptionTokenizer

COMPARED_ROWS = 256  # prefix vectors against the vocabulary at a time: 51 MB for GPT-2's


@dataclass(frozen=True)
class NearestToken:
    """A vocabulary token close to a prefix vector; `similarity` is the cosine, -1 to 1."""

    text: str
    token_id: int
    similarity: float


def prefix_as_words(
    model: ClipCap, embeddings: Tensor, count: int = 1
) -> list[list[list[NearestToken]]]:
    """For each image and each prefix slot the `count` nearest tokens, nearest first.

    ClipCap, section 4 and figure 6: with the language model tuned the words are salient; with it
    frozen they are unreadable and largely shared between images.

    Args:
        embeddings: (B, D) or (B, N, D) float, as the model's mapper takes them.
        count: tokens per slot, at least 1.

    Raises:
        InputError: `count` is below 1 or above the vocabulary.
    """
    with torch.inference_mode():
        prefix = model.prefix(embeddings)  # (B, P, D)
        vocabulary = model.lm.get_input_embeddings().weight  # (V, D)
        similarities, ids = nearest_tokens(prefix, vocabulary, count)
    return [
        [
            [
                NearestToken(token_text(model.tokenizer, token), token, round(value, 4))
                for value, token in zip(values, tokens, strict=True)
            ]
            for values, tokens in zip(image_values, image_ids, strict=True)
        ]
        for image_values, image_ids in zip(similarities.tolist(), ids.tolist(), strict=True)
    ]


def nearest_tokens(prefix: Tensor, vocabulary: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Cosine similarities (B, P, count) float32 and ids (B, P, count) int64, nearest first.

    Args:
        prefix: (B, P, D) float.
        vocabulary: (V, D) float, the word embeddings of the language model.

    Raises:
        InputError: `count` is below 1 or above V.
    """
    if not 1 <= count <= len(vocabulary):
        raise InputError(f"{count} words per prefix slot: expected 1 to {len(vocabulary)}")
    directions = F.normalize(vocabulary.float(), dim=-1)  # (V, D)
    rows = F.normalize(prefix.float(), dim=-1).flatten(0, 1)  # (B * P, D)
    parts = [(part @ directions.T).topk(count) for part in rows.split(COMPARED_ROWS)]
    shape = (*prefix.shape[:2], count)
    values, ids = (torch.cat(columns).view(shape) for columns in zip(*parts, strict=True))
    return values, ids


def token_text(tokenizer: CaptionTokenizer, token: int) -> str:
    """Readable text of one token; its entry in the vocabulary where it is no whole character."""
    text = tokenizer.backend.decode([token], skip_special_tokens=False).strip()
    if text and "\N{REPLACEMENT CHARACTER}" not in text:
        return text
    return tokenizer.backend.id_to_token(token) or f"token {token}"
