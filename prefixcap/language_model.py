"""A causal language model that starts from a prefix and steps by one token."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from prefixcap.cached_step import CachedState, CachedStepper
from prefixcap.errors import InputError
from prefixcap.gpt2_step import GPT2State, GPT2Stepper, is_plain_gpt2

State = GPT2State | CachedState


class PrefixDecoder:
    """start and step over a causal language model of transformers, on its device, in its dtype.

    GPT-2 architectures take the fast path of `gpt2_step`, every other one its own cache. Nothing of
    the language model is copied: it may be trained on between two captions.
    """

    def __init__(self, lm: PreTrainedModel, *, fast: bool = True) -> None:
        self.lm = lm
        self._stepper = GPT2Stepper(lm) if fast and is_plain_gpt2(lm) else CachedStepper(lm)

    def start(self, prefix: Tensor, width: int, max_tokens: int) -> tuple[Tensor, State]:
        """Logits (B, V) float32 of the first token, and the state of B images with `width` beams.

        Args:
            prefix: (B, P, D), any float dtype.
            width: beams per image.
            max_tokens: caption tokens that will be asked for at most.

        Raises:
            InputError: prefix and caption do not fit the positions of the language model.
        """
        room = getattr(self.lm.config, "max_position_embeddings", None)
        # the last caption token is never fed back, hence one position less
        if room is not None and prefix.shape[1] + max_tokens - 1 > room:
            raise InputError(
                f"prefix of {prefix.shape[1]} and {max_tokens} caption tokens, but the language "
                f"model has {room} positions. Set max_tokens to at most "
                f"{room - prefix.shape[1] + 1}"
            )
        with torch.inference_mode():
            return self._stepper.start(prefix, width, max_tokens)

    def step(self, ids: Tensor, state: Any) -> Tensor:
        """Logits (B, W, V) float32 of the token after `ids` (B, W) int64; the state moves on."""
        with torch.inference_mode():
            return self._stepper.step(ids, state)
