"""GPT-2 one token at a time, for many images and beams, over a cache that is never copied.

The keys and values of an image's prefix stand once in its cache, followed by those of its caption
tokens: W places per step, one for each beam. A beam that continues another one copies nothing; a
mask says which places of the image's cache are its own ancestors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2LMHeadModel, PreTrainedModel

from prefixcap.gpt2_weights import GPT2Weights

FIRST_STEPS = 16  # caption tokens the cache has room for at first; it doubles when they are full
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def is_plain_gpt2(lm: PreTrainedModel) -> bool:
    """Whether `lm` is GPT-2's architecture with nothing in it that this module leaves out."""
    return isinstance(lm, GPT2LMHeadModel) and not lm.config.add_cross_attention


@dataclass
class GPT2State:
    """Cache of B images with `width` beams each, and the room their logits are written to.

    Each layer has `keys` (B, H, d, S) and `values` (B, H, S, d) with S = P + W * room for tokens;
    keys lie transposed because that is the product the attention needs. `bias` (B, 1, W, S)
    float32 is 0 where a beam may look and -inf elsewhere; None with one beam. `logits` (B * W, V).
    """

    keys: list[Tensor]
    values: list[Tensor]
    bias: Tensor | None
    logits: Tensor
    prefix_length: int
    width: int
    max_tokens: int
    steps: int = 0

    @property
    def used(self) -> int:
        """Places of the cache that are filled."""
        return self.prefix_length + self.steps * self.width

    @torch.inference_mode()
    def reorder(self, parents: Tensor) -> None:
        """Beam w of each image sees from now on what beam `parents[:, w]` saw; (B, W)."""
        if self.bias is not None:
            index = parents[:, None, :, None].expand(-1, -1, -1, self.bias.shape[-1])
            self.bias = self.bias.gather(2, index)  # (B, 1, W, S)

    @torch.inference_mode()
    def keep(self, images: Tensor) -> None:
        """Only the images at these places of the batch stay, in this order."""
        count, used = len(images), self.used
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            keys[:count, ..., :used] = keys[images, ..., :used]
            values[:count, :, :used] = values[images, :, :used]
            self.keys[layer], self.values[layer] = keys[:count], values[:count]
        if self.bias is not None:
            self.bias = self.bias[images]

    def next_places(self) -> slice:
        """Places for the W tokens of the next step, each visible to its own beam."""
        places = slice(self.used, self.used + self.width)
        if places.stop > self.values[0].shape[2]:
            self._grow()
        if self.bias is not None:
            others = ~torch.eye(self.width, dtype=torch.bool, device=self.bias.device)
            self.bias[..., places] = torch.where(others, -torch.inf, 0.0)
        self.steps += 1
        return places

    def _grow(self) -> None:
        """Room for twice as many steps, at most `max_tokens`."""
        room = (self.values[0].shape[2] - self.prefix_length) // self.width
        extra = (min(2 * room, self.max_tokens) - room) * self.width
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            self.keys[layer] = F.pad(keys, (0, extra))  # (B, H, d, S)
            self.values[layer] = F.pad(values, (0, 0, 0, extra))  # (B, H, S, d)
        if self.bias is not None:
            self.bias = F.pad(self.bias, (0, extra), value=-torch.inf)


class GPT2Stepper:
    """start and step of a GPT-2; its weights are arranged anew when they have changed."""

    def __init__(self, lm: GPT2LMHeadModel) -> None:
        self.lm = lm
        self._weights: GPT2Weights | None = None

    def start(self, prefix: Tensor, width: int, max_tokens: int) -> tuple[Tensor, GPT2State]:
        """Logits (B, V) float32 of the first token after `prefix` (B, P, D), and the state."""
        weights = self._current_weights()
        state = _empty_state(weights, prefix, width, max_tokens)
        images, length, _ = prefix.shape

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            state.keys[layer][..., :length] = key.transpose(2, 3)  # (B, H, d, P)
            state.values[layer][:, :, :length] = value
            scale = weights.layers[layer].scale
            return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)

        embedded = prefix.to(weights.positions.dtype) + weights.positions[:length]
        hidden = _through_layers(weights, embedded, attend)[:, -1]  # (B, D)
        logits = state.logits[:images]
        weights.output(hidden, logits)
        return logits, state

    def step(self, ids: Tensor, state: GPT2State) -> Tensor:
        """Logits (B, W, V) float32 of the token after `ids` (B, W) int64; valid until the next."""
        weights = self._weights
        position = weights.positions[state.prefix_length + state.steps]
        places = state.next_places()

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys, values = state.keys[layer], state.values[layer]
            keys[..., places] = key.transpose(2, 3)  # (B, H, d, W)
            values[:, :, places] = value
            seen = (keys[..., : places.stop], values[:, :, : places.stop])
            return _attention(query * weights.layers[layer].scale, *seen, state.bias)

        embedded = F.embedding(ids, weights.tokens) + position  # (B, W, D)
        hidden = _through_layers(weights, embedded, attend).flatten(0, 1)  # (B * W, D)
        logits = state.logits[: len(hidden)]
        weights.output(hidden, logits)
        return logits.unflatten(0, ids.shape)  # (B, W, V)

    def _current_weights(self) -> GPT2Weights:
        """The weights of the language model as they are now."""
        if self._weights is None or not self._weights.are_those_of(self.lm):
            self._weights = GPT2Weights(self.lm)
        return self._weights


def _through_layers(weights: GPT2Weights, hidden: Tensor, attend: Attend) -> Tensor:
    """Hidden states (B, T, D) after all layers and the final norm."""
    for number, layer in enumerate(weights.layers):
        fused = layer.qkv(layer.norm_1(hidden)).unflatten(-1, (3, weights.heads, -1))
        query, key, value = fused.permute(2, 0, 3, 1, 4)  # 3 x (B, H, T, d)
        mixed = attend(number, query, key, value).transpose(1, 2).flatten(2)  # (B, T, D)
        hidden = hidden + layer.out(mixed)
        hidden = hidden + layer.down(layer.up(layer.norm_2(hidden)))
    return weights.norm(hidden)


def _attention(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """Mixed values (B, H, W, d) for scaled queries (B, H, W, d), keys (B, H, d, S), values.

    Written out because these many tiny products take a third of the time that PyTorch's fused
    attention needs for them on a CPU. The softmax is in float32.
    """
    scores = torch.bmm(query.flatten(0, 1), keys.flatten(0, 1))  # (B * H, W, S)
    if bias is None:
        weights = scores.softmax(dim=-1, dtype=torch.float32)
    else:
        visible = bias[..., : keys.shape[-1]]  # (B, 1, W, S)
        scores = scores.float().unflatten(0, query.shape[:2]).add_(visible)  # (B, H, W, S)
        weights = scores.softmax(dim=-1).flatten(0, 1)  # (B * H, W, S)
    mixed = torch.bmm(weights.to(values.dtype), values.flatten(0, 1))  # (B * H, W, d)
    return mixed.unflatten(0, query.shape[:2])  # (B, H, W, d)


def _empty_state(weights: GPT2Weights, prefix: Tensor, width: int, max_tokens: int) -> GPT2State:
    """Cache without content, with room for the prefix and the first steps."""
    images, length, size = prefix.shape
    places = length + width * min(max_tokens, FIRST_STEPS)
    head_size = size // weights.heads
    like = {"dtype": weights.tokens.dtype, "device": weights.tokens.device}
    bias = None
    if width > 1:
        bias = torch.full((images, 1, width, places), -torch.inf, device=like["device"])
        bias[..., :length] = 0.0
    return GPT2State(
        keys=[
            torch.empty(images, weights.heads, head_size, places, **like) for _ in weights.layers
        ],
        values=[
            torch.empty(images, weights.heads, places, head_size, **like) for _ in weights.layers
        ],
        bias=bias,
        logits=torch.empty(images * width, weights.output.vocabulary, device=like["device"]),
        prefix_length=length,
        width=width,
        max_tokens=max_tokens,
    )
