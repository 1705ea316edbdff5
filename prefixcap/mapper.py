"""Mapping networks: an image embedding becomes the prefix that the language model continues."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prefixcap.config import LONGEST_PREFIX, MapperConfig
from prefixcap.errors import InputError
from prefixcap.products import FastLinear

MLP_RATIO = 2  # hidden width of the transformer's MLP over its width; the original code's value


class AttentionPool(nn.Module):
    """One vector (B, D) from patch tokens (B, N, D): a mean weighted by learned scores.

    Its scores start at zero, so training begins at the plain mean.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = FastLinear(dim, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pooled vectors (B, D) of `tokens` (B, N, D)."""
        weights = self.score(tokens).softmax(dim=1)  # (B, N, 1)
        return (weights * tokens).sum(dim=1)


class LinearMapper(nn.Module):
    """Prefix by one Linear, the third form in the original's inference script (for k > 10).

    Patch tokens are pooled by `AttentionPool` first.
    """

    def __init__(self, config: MapperConfig, embedding_dim: int, lm_dim: int, tokens: int | None):
        super().__init__()
        self.prefix_length = config.prefix_length
        self.pool = None if tokens is None else AttentionPool(embedding_dim)
        self.linear = FastLinear(embedding_dim, config.prefix_length * lm_dim)

    def forward(self, embedding: Tensor) -> Tensor:
        """Prefix (B, P, lm_dim) of embeddings (B, D), or of patch tokens (B, N, D)."""
        pooled = embedding if self.pool is None else self.pool(embedding)
        return self.linear(pooled).unflatten(1, (self.prefix_length, -1))  # (B, P, lm_dim)


class MLPMapper(nn.Module):
    """Prefix by an MLP with one hidden layer and tanh (ClipCap, section 3.1).

    Patch tokens are pooled by `AttentionPool` first.
    """

    def __init__(self, config: MapperConfig, embedding_dim: int, lm_dim: int, tokens: int | None):
        super().__init__()
        self.prefix_length = config.prefix_length
        width = config.prefix_length * lm_dim
        hidden = config.hidden_dim or width // 2
        self.pool = None if tokens is None else AttentionPool(embedding_dim)
        self.hidden = FastLinear(embedding_dim, hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.out = FastLinear(hidden, width)

    def forward(self, embedding: Tensor) -> Tensor:
        """Prefix (B, P, lm_dim) of embeddings (B, D), or of patch tokens (B, N, D)."""
        pooled = embedding if self.pool is None else self.pool(embedding)
        hidden = self.dropout(self.hidden(pooled).tanh())
        return self.out(hidden).unflatten(1, (self.prefix_length, -1))  # (B, P, lm_dim)


class MapperAttention(nn.Module):
    """Self-attention without bias on query, key and value, as in the original code."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_queries = FastLinear(width, width, bias=False)
        self.to_keys_values = FastLinear(width, 2 * width, bias=False)  # keys first
        self.project = FastLinear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mixed tokens (B, N, W) of `tokens` (B, N, W); every token sees every other."""
        keys, values = self.to_keys_values(tokens).chunk(2, dim=-1)
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, W / heads)
            for part in (self.to_queries(tokens), keys, values)
        )
        scores = queries @ keys.transpose(2, 3) * queries.shape[-1] ** -0.5  # (B, heads, N, N)
        mixed = scores.softmax(dim=-1).to(values.dtype) @ values
        return self.dropout(self.project(mixed.transpose(1, 2).flatten(2)))  # (B, N, W)


class MapperMLP(nn.Module):
    """Two Linears with a ReLU between them."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = FastLinear(width, MLP_RATIO * width)
        self.fc2 = FastLinear(MLP_RATIO * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, W), each mapped alone."""
        return self.dropout(self.fc2(self.dropout(self.fc1(tokens).relu())))


class MapperLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = MapperAttention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MapperMLP(width, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, W) after attention and MLP, each added to its input."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class TransformerMapper(nn.Module):
    """Prefix by a transformer over the embedding's tokens and learned constants (section 3.2).

    A pooled embedding is projected to C tokens. Patch tokens are projected one by one instead, and
    each gets a learned vector for its place, since a CNN's patches do not say where they are. The
    outputs at the constants are the prefix; no final norm, no other positions, as in the original.
    """

    def __init__(self, config: MapperConfig, embedding_dim: int, lm_dim: int, tokens: int | None):
        super().__init__()
        if lm_dim % config.heads:
            raise InputError(
                f"mapper.heads = {config.heads} does not divide the language model's width "
                f"{lm_dim}; choose a divisor of it"
            )
        self.pooled = tokens is None
        projected = config.clip_length * lm_dim if tokens is None else lm_dim
        self.linear = FastLinear(embedding_dim, projected)
        self.positions = None if tokens is None else nn.Parameter(torch.zeros(tokens, lm_dim))
        self.prefix_const = nn.Parameter(torch.randn(config.prefix_length, lm_dim))
        self.layers = nn.ModuleList(
            MapperLayer(lm_dim, config.heads, config.dropout) for _ in range(config.layers)
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """Prefix (B, P, lm_dim) of embeddings (B, D), or of patch tokens (B, N, D)."""
        seen = self.linear(embedding)  # (B, C * W), or (B, N, W) of patch tokens
        if self.positions is None:
            seen = seen.unflatten(1, (-1, self.prefix_const.shape[1]))  # (B, C, W)
        else:
            seen = seen + self.positions
        constants = self.prefix_const.to(seen.dtype).expand(len(seen), -1, -1)  # (B, P, W)
        tokens = torch.cat([seen, constants], dim=1)  # (B, C + P, W)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens[:, seen.shape[1] :]  # (B, P, W)


class PatchMapper(nn.Module):
    """Prefix of the patch tokens themselves, each by the same MLP (LLaVA-1.5, Liu et al. 2023).

    Each gets a learned vector for its place, since a CNN's patches do not say where they are. The
    language model then looks at every patch at every word; the prefix is as long as the grid.
    """

    def __init__(self, config: MapperConfig, embedding_dim: int, lm_dim: int, tokens: int | None):
        super().__init__()
        if config.prefix_length != tokens:
            found = "one pooled vector" if tokens is None else f"{tokens} patch tokens"
            raise InputError(
                f"mapper.kind 'patches' with prefix_length = {config.prefix_length}: the encoder "
                f"gives {found}; {_mending(tokens)}"
            )
        hidden = config.hidden_dim or MLP_RATIO * lm_dim
        self.norm = nn.LayerNorm(embedding_dim)
        self.hidden = FastLinear(embedding_dim, hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.out = FastLinear(hidden, lm_dim)
        self.positions = nn.Parameter(torch.zeros(tokens, lm_dim))

    def forward(self, embedding: Tensor) -> Tensor:
        """Prefix (B, N, lm_dim) of patch tokens (B, N, D)."""
        hidden = F.gelu(self.hidden(self.norm(embedding)))
        return self.out(self.dropout(hidden)) + self.positions  # (B, N, W)


def _mending(tokens: int | None) -> str:
    """What to do where a prefix of patches does not fit an encoder of `tokens` patch tokens."""
    if tokens is None:
        return "set encoder.output = 'patches'"
    if tokens > LONGEST_PREFIX:
        return f"a prefix has {LONGEST_PREFIX} at most, take mapper.kind = 'transformer'"
    return f"set prefix_length = {tokens}"


Mapper = LinearMapper | MLPMapper | TransformerMapper | PatchMapper


def resized_positions(positions: Tensor, tokens: int) -> Tensor:
    """Vectors (M, W) for the places of a square grid of `tokens` = M, from those (N, W) of another.

    Bilinear between the places' centres, as positions are taken to another resolution
    (Dosovitskiy et al. 2021, section 3.2). Unchanged where either grid is not square.
    """
    former, side = math.isqrt(len(positions)), math.isqrt(tokens)
    if len(positions) == tokens or former**2 != len(positions) or side**2 != tokens:
        return positions
    grid = positions.T.reshape(1, -1, former, former)  # (1, W, F, F)
    resized = F.interpolate(grid, (side, side), mode="bilinear", align_corners=False)
    return resized[0].flatten(1).T.contiguous()  # (M, W)


def build_mapper(
    config: MapperConfig, embedding_dim: int, lm_dim: int, tokens: int | None = None
) -> Mapper:
    """Mapper with random weights for embeddings (B, D), or for `tokens` patch tokens (B, N, D).

    Raises:
        InputError: the heads of a transformer mapper do not divide `lm_dim`, or a prefix of patches
            is not as long as there are patches.
    """
    kinds = {
        "mlp": MLPMapper,
        "transformer": TransformerMapper,
        "linear": LinearMapper,
        "patches": PatchMapper,
    }
    return kinds[config.kind](config, embedding_dim, lm_dim, tokens)
