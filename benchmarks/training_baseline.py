"""What training is measured against: the original ClipCap's algorithm for one step."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2LMHeadModel

PADDED = 36  # tokens: what the original pads each COCO caption to (mean + 10 deviations, or most)


class OriginalStep:
    """One step of the original's train.py, as described in its paper and code.

    Every caption is padded to one length and has a prefix of its own; logits are computed at every
    position and in float32; id 0 is padding and no target. A frozen language model's gradients are
    computed, and thrown away.

    Args:
        mapper: embedding (B, D) to prefix (B, P, W).
        lm: the language model.
        tuned: whether the optimizer changes it.
        padded: tokens per caption.
    """

    def __init__(self, mapper: nn.Module, lm: GPT2LMHeadModel, tuned: bool, padded: int) -> None:
        self.mapper, self.lm, self.padded = mapper, lm.requires_grad_(True), padded
        trained = [*mapper.parameters(), *(lm.parameters() if tuned else [])]
        self.optimizer = torch.optim.AdamW(trained, lr=2e-5, eps=1e-6, weight_decay=0.0)

    def gradients(self, embeddings: Tensor, ids: Tensor) -> float:
        """Mean loss of captions (M, T), 0 where padded, one embedding (M, D) each; adds gradients.

        `T` is at most `padded`.
        """
        tokens = F.pad(ids, (0, self.padded - ids.shape[1]))  # (M, L)
        mask = tokens.ge(1).float()
        prefix = self.mapper(embeddings)  # (M, P, W)
        words = self.lm.transformer.wte(tokens)
        mask = torch.cat([torch.ones(prefix.shape[:2], device=ids.device), mask], dim=1)
        rows = torch.cat([prefix, words], dim=1)  # (M, P + L, W)
        logits = self.lm(inputs_embeds=rows, attention_mask=mask, use_cache=False).logits
        logits = logits[:, prefix.shape[1] - 1 : -1]  # (M, L, V)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=0)
        loss.backward()
        return loss.item()

    def __call__(self, embeddings: Tensor, ids: Tensor) -> float:
        """`gradients`, and the weights moved along them."""
        self.mapper.zero_grad()
        self.lm.zero_grad()
        loss = self.gradients(embeddings, ids)
        self.optimizer.step()
        return loss
