"""Where the slots of a prefix look: attention from each of them to the image's tokens."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from prefixcap.mapper import (
    LinearMapper,
    MapperAttention,
    MLPMapper,
    PatchMapper,
    TransformerMapper,
)
from prefixcap.model import ClipCap


@torch.inference_mode()
def slot_attention(model: ClipCap, embeddings: Tensor) -> Tensor | None:
    """Attention of the slots to the image tokens (B, P, N) float32, rows sum to 1.

    Of a transformer mapper it is attention rollout (Abnar & Zuidema 2020): in each layer the mean
    over heads, half of it the token itself for the residual path, multiplied through all layers;
    what goes to the learned constants is left out. MLP and linear mappers pool the image tokens
    once for all slots: (B, 1, N). A slot of patches is its own patch. None where the model reads
    one vector, which has no places.

    Args:
        model: in evaluation mode.
        embeddings: (B, N, D), or (B, D), as `model.prefix` takes them.
    """
    if model.config.embedding_tokens is None:
        return None
    mapper = model.mapper
    if isinstance(mapper, LinearMapper | MLPMapper):
        read = embeddings.to(next(mapper.parameters()).dtype)
        weights = mapper.pool.score(read).softmax(dim=1)  # (B, N, 1)
        return weights.transpose(1, 2).float()
    if isinstance(mapper, PatchMapper):
        places = torch.eye(embeddings.shape[1], device=embeddings.device)
        return places.expand(len(embeddings), -1, -1)
    with _inputs_of_attention(mapper) as seen:
        model.prefix(embeddings)
    joint = None
    for layer, tokens in zip(mapper.layers, seen, strict=True):
        weights = attention_weights(layer.attn, tokens).mean(1)  # (B, N + P, N + P)
        mixed = (weights + torch.eye(weights.shape[-1], device=weights.device)) / 2
        joint = mixed if joint is None else mixed @ joint
    count = embeddings.shape[1]
    return _to_one(joint[:, count:, :count])  # (B, P, N)


def attention_weights(attention: MapperAttention, tokens: Tensor) -> Tensor:
    """Softmax weights (B, heads, N, N) float32 of a layer that reads `tokens` (B, N, W)."""
    keys = attention.to_keys_values(tokens).chunk(2, dim=-1)[0]
    queries, keys = (
        part.unflatten(-1, (attention.heads, -1)).transpose(1, 2)  # (B, heads, N, W / heads)
        for part in (attention.to_queries(tokens), keys)
    )
    scores = queries @ keys.transpose(2, 3) * queries.shape[-1] ** -0.5  # (B, heads, N, N)
    return scores.float().softmax(dim=-1)


@contextmanager
def _inputs_of_attention(mapper: TransformerMapper) -> Iterator[list[Tensor]]:
    """What the attention of each layer reads, (B, N + P, W) each, during the block."""
    seen: list[Tensor] = []
    hooks = [
        layer.attn.register_forward_pre_hook(lambda _, read: seen.append(read[0]))
        for layer in mapper.layers
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _to_one(weights: Tensor) -> Tensor:
    """The weights, divided so that each row sums to 1."""
    return weights / weights.sum(-1, keepdim=True)
