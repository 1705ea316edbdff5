"""What decoding is measured against: the original's algorithm, and transformers' `generate`."""

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel


@torch.inference_mode()
def greedy_without_cache(lm: GPT2LMHeadModel, prefix: Tensor, tokens: int) -> list[int]:
    """Ids of one image's caption, prefix (1, P, D), every step a forward over the whole of it.

    The original's `generate2` as described in its paper and code, without the sort of the
    vocabulary that its sampler does before it takes the arg-max.
    """
    embedded, ids = prefix, []
    for _ in range(tokens):
        token = lm(inputs_embeds=embedded, use_cache=False).logits[:, -1].argmax(dim=-1)
        ids.append(int(token))
        embedded = torch.cat([embedded, lm.transformer.wte(token)[:, None]], dim=1)  # (1, T, D)
    return ids


@torch.inference_mode()
def beam_without_cache(
    lm: GPT2LMHeadModel, prefix: Tensor, tokens: int, width: int
) -> list[list[int]]:
    """Ids of one image's beams, best first: averages compete, every step a whole forward.

    The original's `generate_beam` for captions that never stop, as here with random weights.
    """
    log_probs = lm(inputs_embeds=prefix, use_cache=False).logits[0, -1].log_softmax(dim=-1)
    sums, ids = (part.unsqueeze(-1) for part in log_probs.topk(width))  # (W, 1)
    embedded = prefix.expand(width, -1, -1)
    for length in range(2, tokens + 1):
        words = lm.transformer.wte(ids[:, -1:])  # (W, 1, D)
        embedded = torch.cat([embedded, words], dim=1)
        logits = lm(inputs_embeds=embedded, use_cache=False).logits[:, -1]
        averages = (sums + logits.log_softmax(dim=-1)) / length  # (W, V)
        best, places = averages.flatten().topk(width)
        parents = places // averages.shape[1]
        ids = torch.cat([ids[parents], (places % averages.shape[1])[:, None]], dim=1)
        sums, embedded = best[:, None] * length, embedded[parents]
    return ids.tolist()


@torch.inference_mode()
def generate(lm: GPT2LMHeadModel, prefix: Tensor, tokens: int, width: int) -> Tensor:
    """Ids (B, tokens) by transformers for a whole batch, prefix (B, P, D); it has no stop token."""
    return lm.generate(
        inputs_embeds=prefix,
        attention_mask=torch.ones(prefix.shape[:2], dtype=torch.int64, device=prefix.device),
        max_new_tokens=tokens,
        num_beams=width,
        do_sample=False,
    )
