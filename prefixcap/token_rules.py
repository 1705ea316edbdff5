"""Which tokens a caption may go on with: forced first words, a least length, no repeated n-gram."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prefixcap.errors import InputError
from prefixcap.hypotheses import HypothesisTable


@dataclass(frozen=True)
class TokenRules:
    """Rules for every hypothesis alike.

    `forced_ids` are the first tokens of a caption; none of them ends it. Then at least
    `min_tokens` tokens stand before a token of `stop_ids` (S,) int64. `block_ngrams` n > 0: no n
    tokens in a row occur twice in a caption.
    """

    stop_ids: Tensor
    forced_ids: tuple[int, ...]
    min_tokens: int
    max_tokens: int
    block_ngrams: int

    def __post_init__(self) -> None:
        if len(self.forced_ids) > self.max_tokens:
            raise InputError(
                f"the forced words are {len(self.forced_ids)} tokens, but max_tokens is "
                f"{self.max_tokens}. Force fewer words or raise max_tokens"
            )

    def stops_at(self, step: int) -> Tensor:
        """Tokens that end a hypothesis as its token number `step` (from 0), (S,) int64."""
        return self.stop_ids[:0] if step < len(self.forced_ids) else self.stop_ids

    def restrict(self, logits: Tensor, live: HypothesisTable) -> Tensor:
        """Logits (B, W, V) with -inf at excluded tokens; the ones passed in are overwritten.

        Where the rules would leave no token at all, those of repetition and least length yield.
        """
        if live.steps < len(self.forced_ids):
            return _only(logits, self.forced_ids[live.steps])
        excludes_stops = live.steps < self.min_tokens and len(self.stop_ids) > 0
        if not excludes_stops and not self.block_ngrams:
            return logits
        may_exclude_all = logits.shape[-1] <= live.steps + len(self.stop_ids)
        free = logits.clone() if may_exclude_all else logits
        if excludes_stops:
            logits[..., self.stop_ids] = -torch.inf
        if self.block_ngrams:
            _exclude_repetition(logits, live.written(), self.block_ngrams)
        if may_exclude_all:
            logits = torch.where(logits.isneginf().all(dim=-1, keepdim=True), free, logits)
        return logits


def _only(logits: Tensor, token: int) -> Tensor:
    """Logits (B, W, V) with -inf everywhere but at `token`."""
    only = torch.full_like(logits, -torch.inf)
    only[..., token] = logits[..., token]
    return only


def _exclude_repetition(logits: Tensor, written: Tensor, length: int) -> None:
    """Put -inf into logits (B, W, V) where a token would repeat an n-gram of written (B, W, t)."""
    steps = written.shape[-1]
    if steps < length:
        return
    ngrams = written.unfold(-1, length, 1)  # (B, W, t - n + 1, n)
    begun = written[..., None, steps - length + 1 :]  # (B, W, 1, n - 1)
    repeats = (ngrams[..., :-1] == begun).all(dim=-1)  # (B, W, t - n + 1)
    ceiling = torch.where(repeats, -torch.inf, torch.inf)
    logits.scatter_reduce_(-1, ngrams[..., -1], ceiling, reduce="amin")
