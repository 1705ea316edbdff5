"""GPT-2 one token at a time, for many images and beams, over a cache that is never copied.

The keys and values of an image's prefix stand once in its cache, followed by those of its caption
tokens: W places per step, one for each beam. A beam that continues another one copies nothing; a
mask says which places of the image's cache are its own ancestors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import LongTensor, Tensor
from torch.nn import functional as F
from transformers import GPT2LMHeadModel, PreTrainedModel

FIRST_STEPS = 16  # caption tokens the cache has room for at first; it doubles when they are full
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def is_plain_gpt2(lm: PreTrainedModel) -> bool:
    """Whether `lm` is GPT-2's architecture with nothing in it that this module leaves out."""
    return isinstance(lm, GPT2LMHeadModel) and not lm.config.add_cross_attention


@dataclass
class GPT2State:
    """Cache of B images with `width` beams each.

    `keys` and `values` have one tensor per layer, (B, H, S, d), with S = P + W * room for tokens.
    `hidden` (B, 1, W, S) is 0 where a beam may look and -inf elsewhere; None with one beam.
    """

    keys: list[Tensor]
    values: list[Tensor]
    hidden: Tensor | None
    prefix_length: int
    width: int
    max_tokens: int
    steps: int = 0

    @property
    def used(self) -> int:
        """Places of the cache that are filled."""
        return self.prefix_length + self.steps * self.width

    def reorder(self, parents: LongTensor) -> None:
        """Beam w of each image sees from now on what beam `parents[:, w]` saw; (B, W)."""
        if self.hidden is not None:
            index = parents[:, None, :, None].expand(-1, -1, -1, self.hidden.shape[-1])
            self.hidden = self.hidden.gather(2, index)  # (B, 1, W, S)

    def keep(self, images: LongTensor) -> None:
        """Only the images at these places of the batch stay, in this order."""
        used = self.used
        for caches in (self.keys, self.values):
            for layer, cache in enumerate(caches):
                cache[: len(images), :, :used] = cache[images, :, :used]
                caches[layer] = cache[: len(images)]
        if self.hidden is not None:
            self.hidden = self.hidden[images]

    def open_step(self, dtype: torch.dtype) -> slice:
        """Places for the W tokens of the next step, each visible to its own beam."""
        places = slice(self.used, self.used + self.width)
        if places.stop > self.keys[0].shape[2]:
            self._grow()
        if self.hidden is not None:
            own = torch.eye(self.width, dtype=torch.bool, device=self.hidden.device)
            self.hidden[..., places] = torch.zeros_like(own, dtype=dtype).masked_fill(
                ~own, -torch.inf
            )
        return places

    def _grow(self) -> None:
        """Room for twice as many steps, at most `max_tokens`."""
        room = (self.keys[0].shape[2] - self.prefix_length) // self.width
        extra = (min(2 * room, self.max_tokens) - room) * self.width
        for caches in (self.keys, self.values):
            for layer, cache in enumerate(caches):
                caches[layer] = F.pad(cache, (0, 0, 0, extra))  # (B, H, S, d)
        if self.hidden is not None:
            self.hidden = F.pad(self.hidden, (0, extra), value=-torch.inf)


class GPT2Stepper:
    """start and step of a GPT-2, reading the language model's own weights."""

    def __init__(self, lm: GPT2LMHeadModel) -> None:
        self.lm = lm
        self.heads = lm.config.n_head

    def start(self, prefix: Tensor, width: int, max_tokens: int) -> tuple[Tensor, GPT2State]:
        """Logits (B, V) float32 of the first token after `prefix` (B, P, D), and the state."""
        state = self._empty_state(prefix, width, max_tokens)
        length = prefix.shape[1]
        positions = self.lm.transformer.wpe.weight[:length]  # (P, D)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            state.keys[layer][:, :, :length] = key
            state.values[layer][:, :, :length] = value
            scale = self.lm.transformer.h[layer].attn.scaling
            return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)

        hidden = self._layers(prefix.to(positions.dtype) + positions, attend)
        return self._logits(hidden[:, -1]), state

    def step(self, ids: Tensor, state: GPT2State) -> Tensor:
        """Logits (B, W, V) float32 of the token after `ids` (B, W) int64."""
        transformer = self.lm.transformer
        places = state.open_step(transformer.wte.weight.dtype)
        mask = None if state.hidden is None else state.hidden[..., : places.stop]

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys, values = state.keys[layer], state.values[layer]
            keys[:, :, places] = key
            values[:, :, places] = value
            return F.scaled_dot_product_attention(
                query,
                keys[:, :, : places.stop],
                values[:, :, : places.stop],
                attn_mask=mask,
                scale=transformer.h[layer].attn.scaling,
            )

        position = transformer.wpe.weight[state.prefix_length + state.steps]
        state.steps += 1
        return self._logits(self._layers(transformer.wte(ids) + position, attend))

    def _layers(self, hidden: Tensor, attend: Attend) -> Tensor:
        """Hidden states (B, T, D) after all layers and the final norm."""
        for number, layer in enumerate(self.lm.transformer.h):
            fused = layer.attn.c_attn(layer.ln_1(hidden))  # (B, T, 3D)
            query, key, value = (self._split_heads(part) for part in fused.chunk(3, dim=-1))
            mixed = attend(number, query, key, value).transpose(1, 2).flatten(2)  # (B, T, D)
            hidden = hidden + layer.attn.c_proj(mixed)
            hidden = hidden + layer.mlp.c_proj(layer.mlp.act(layer.mlp.c_fc(layer.ln_2(hidden))))
        return self.lm.transformer.ln_f(hidden)

    def _split_heads(self, states: Tensor) -> Tensor:
        """(B, T, D) seen as (B, H, T, d)."""
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, d)

    def _logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) float32 of hidden states (..., D)."""
        return self.lm.lm_head(hidden).float()

    def _empty_state(self, prefix: Tensor, width: int, max_tokens: int) -> GPT2State:
        """Cache without content, with room for the prefix and the first steps."""
        images, length, size = prefix.shape
        dtype = self.lm.transformer.wte.weight.dtype
        places = length + width * min(max_tokens, FIRST_STEPS)
        shape = (images, self.heads, places, size // self.heads)
        hidden = None
        if width > 1:
            hidden = torch.full(
                (images, 1, width, places), -torch.inf, dtype=dtype, device=prefix.device
            )
            hidden[..., :length] = 0.0
        layers = range(self.lm.config.n_layer)
        return GPT2State(
            keys=[torch.empty(shape, dtype=dtype, device=prefix.device) for _ in layers],
            values=[torch.empty(shape, dtype=dtype, device=prefix.device) for _ in layers],
            hidden=hidden,
            prefix_length=length,
            width=width,
            max_tokens=max_tokens,
        )
