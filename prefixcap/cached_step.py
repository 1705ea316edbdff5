"""Any causal language model of transformers one token at a time, over the model's own cache."""

import inspect
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel


@dataclass
class CachedState:
    """A transformers cache whose batch has one row per beam: B * W rows, image-major."""

    cache: Cache
    width: int

    @torch.inference_mode()
    def reorder(self, parents: Tensor) -> None:
        """Beam w of each image continues beam `parents[:, w]`; (B, W)."""
        first = torch.arange(len(parents), device=parents.device)[:, None] * self.width
        self.cache.reorder_cache((first + parents).flatten())  # (B * W,)

    @torch.inference_mode()
    def keep(self, images: Tensor) -> None:
        """Only the images at these places of the batch stay, in this order."""
        beams = torch.arange(self.width, device=images.device)
        self.cache.reorder_cache((images[:, None] * self.width + beams).flatten())  # (B' * W,)


class CachedStepper:
    """start and step of a transformers causal language model."""

    def __init__(self, lm: PreTrainedModel) -> None:
        self.lm = lm
        # transformers 5.24 renamed it, for the argument as for the result
        is_new = "cache" in inspect.signature(lm.forward).parameters
        self._name = "cache" if is_new else "past_key_values"

    def start(self, prefix: Tensor, width: int, max_tokens: int) -> tuple[Tensor, CachedState]:
        """Logits (B, V) float32 of the first token after `prefix` (B, P, D), and the state."""
        result = self.lm(inputs_embeds=prefix.to(self.lm.dtype), use_cache=True)
        cache = result[self._name]
        rows = torch.arange(len(prefix), device=prefix.device).repeat_interleave(width)  # (B * W,)
        cache.reorder_cache(rows)
        return result.logits[:, -1].float(), CachedState(cache, width)

    def step(self, ids: Tensor, state: CachedState) -> Tensor:
        """Logits (B, W, V) float32 of the token after `ids` (B, W) int64."""
        rows = ids.reshape(-1, 1)  # (B * W, 1)
        result = self.lm(input_ids=rows, use_cache=True, **{self._name: state.cache})
        state.cache = result[self._name]
        return result.logits[:, -1].float().unflatten(0, ids.shape)  # (B, W, V)
