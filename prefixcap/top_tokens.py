"""The likeliest tokens of a vocabulary, exactly, without sorting or normalising all of it."""

import torch
from torch import Tensor

BLOCK = 128  # tokens; with 50,257 tokens, 393 block maxima are searched instead of the vocabulary
NORMALIZER_WORDS = 6400  # tokens that are summed at a time, of GPT-2's an eighth
NORMALIZER_ROWS = 32  # rows at a time: 6 MB of float32, which stay in the processor's cache


def top_tokens(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest logits (..., count), descending, and their token ids int64.

    Exact: the k largest tokens lie in the k blocks with the largest maxima. A vocabulary of fewer
    than `count` tokens is filled up with -inf (id 0).
    """
    vocabulary = logits.shape[-1]
    blocks = vocabulary // BLOCK
    if blocks <= 2 * count:
        return _filled(*logits.topk(min(count, vocabulary), dim=-1), count)
    whole = logits[..., : blocks * BLOCK].unflatten(-1, (blocks, BLOCK))  # (..., blocks, BLOCK)
    best = whole.amax(dim=-1).topk(count, dim=-1).indices  # (..., count)
    index = best[..., None].expand(*best.shape, BLOCK)  # (..., count, BLOCK)
    candidates = whole.gather(-2, index).flatten(-2)  # (..., count * BLOCK)
    ids = (best[..., None] * BLOCK + torch.arange(BLOCK, device=logits.device)).flatten(-2)
    tail = torch.arange(blocks * BLOCK, vocabulary, device=logits.device)
    candidates = torch.cat([candidates, logits[..., blocks * BLOCK :]], dim=-1)
    ids = torch.cat([ids, tail.expand(*ids.shape[:-1], len(tail))], dim=-1)
    values, places = candidates.topk(count, dim=-1)
    return values, ids.gather(-1, places)


def _filled(values: Tensor, ids: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Both tensors padded on the last axis to `count` entries: -inf, and token 0."""
    missing = count - values.shape[-1]
    if missing == 0:
        return values, ids
    pad = (0, missing)
    return (
        torch.nn.functional.pad(values, pad, value=-torch.inf),
        torch.nn.functional.pad(ids, pad, value=0),
    )


def log_normalizer(logits: Tensor) -> Tensor:
    """log of the sum of exp over the vocabulary, (..., 1) float32: log p = logit - normalizer."""
    if logits.device.type != "cpu":
        return logits.float().logsumexp(dim=-1, keepdim=True)
    rows = logits.reshape(-1, logits.shape[-1])  # (N, V)
    parts = [_block_normalizer(block.float()) for block in rows.split(NORMALIZER_ROWS)]
    return torch.cat(parts).unflatten(0, logits.shape[:-1])  # (..., 1)


def _block_normalizer(rows: Tensor) -> Tensor:
    """log of the sum of exp of each row, (N, 1), from PyTorch's log-softmax.

    At the largest logit, log-softmax is minus the log of the sum of exp(logit - largest). This
    takes a quarter of the time of `logsumexp`, which passes over memory three times more. Sums are
    of parts of a row: one over all of it, in the few lanes of a processor with AVX2, is coarser.
    """
    parts = rows.split(NORMALIZER_WORDS, dim=-1)
    largest = torch.cat([part.amax(dim=-1, keepdim=True) for part in parts], dim=-1)
    logs = [part.log_softmax(dim=-1).amax(dim=-1, keepdim=True) for part in parts]
    highest = largest.amax(dim=-1, keepdim=True)
    sums = largest - highest - torch.cat(logs, dim=-1)  # (N, parts); NaN where all are -inf
    return highest + sums.nan_to_num(-torch.inf).logsumexp(dim=-1, keepdim=True)
