"""Captions while they are written: a table of tensors for all images and beams at once."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Hypothesis:
    """One caption as token ids; they end with the stop token where it was produced.

    `log_probs` has the natural-log probability of each token under the model's own distribution
    (no temperature, no rules). `score` is what the search ranks by; higher is better.
    """

    ids: list[int]
    log_probs: list[float]
    score: float


@dataclass(frozen=True)
class NextTokens:
    """What a search chooses from: log p of a token is `logits` - `normalizer`.

    `logits` (B, W, V) float32 with -inf at the tokens that the rules exclude; `normalizer`
    (B, W, 1) float32 over all tokens, so that rules change no probability. `stop_ids` (S,) int64
    end a hypothesis at this step; `is_last`: no further token will be asked for.
    """

    logits: Tensor
    normalizer: Tensor
    stop_ids: Tensor
    is_last: bool


@dataclass(frozen=True)
class Choice:
    """The next token of each hypothesis: `tokens` (B, W) int64, `log_probs` (B, W) float32.

    `parents` (B, W) int64 says which hypothesis of the image each one continues; None: its own.
    """

    tokens: Tensor
    log_probs: Tensor
    parents: Tensor | None = None


@dataclass(frozen=True)
class HypothesisTable:
    """W hypotheses of each of B images, all `steps` tokens long unless they stopped before.

    Shapes: `ids` (B, W, T) int64 and `log_probs` (B, W, T) float32, filled up to `steps`; `sums`
    (B, W) float32, the sum of a hypothesis' log-probabilities; `lengths` (B, W) int64, its tokens
    with the stop token; `stopped` (B, W) bool.
    """

    ids: Tensor
    log_probs: Tensor
    sums: Tensor
    lengths: Tensor
    stopped: Tensor
    steps: int = 0

    @classmethod
    def empty(cls, images: int, max_tokens: int, device: torch.device) -> Self:
        """One hypothesis without tokens for each image; W is 1 until the first choice."""
        return cls(
            ids=torch.zeros(images, 1, max_tokens, dtype=torch.int64, device=device),
            log_probs=torch.zeros(images, 1, max_tokens, device=device),
            sums=torch.zeros(images, 1, device=device),
            lengths=torch.zeros(images, 1, dtype=torch.int64, device=device),
            stopped=torch.zeros(images, 1, dtype=torch.bool, device=device),
        )

    def extended(self, choice: Choice, stop_ids: Tensor) -> Self:
        """The table one token later; a hypothesis that has stopped stays as it is."""
        before = self if choice.parents is None else self.at(choice.parents)
        growing = ~before.stopped
        ids, log_probs = before.ids.clone(), before.log_probs.clone()
        ids[:, :, self.steps] = choice.tokens
        log_probs[:, :, self.steps] = choice.log_probs
        return replace(
            before,
            ids=ids,
            log_probs=log_probs,
            sums=torch.where(growing, before.sums + choice.log_probs, before.sums),
            lengths=before.lengths + growing,
            stopped=before.stopped | torch.isin(choice.tokens, stop_ids),
            steps=self.steps + 1,
        )

    def at(self, beams: Tensor) -> Self:
        """The table whose hypothesis w of each image is this one's `beams[:, w]`; (B, W')."""
        rows = torch.arange(len(beams), device=beams.device)[:, None]  # (B, 1)
        return self._with({name: getattr(self, name)[rows, beams] for name in _TABLES})

    def kept(self, images: Tensor) -> Self:
        """The table of only the images at these places of the batch, in this order."""
        return self._with({name: getattr(self, name)[images] for name in _TABLES})

    def beside(self, other: Self) -> Self:
        """The table with the hypotheses of `other` after its own, (B, W + W')."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in _TABLES}
        return self._with({name: torch.cat(pair, dim=1) for name, pair in pairs.items()})

    def _with(self, tables: dict[str, Tensor]) -> Self:
        """The same number of steps with other tensors."""
        return replace(self, **tables)

    def written(self) -> Tensor:
        """Tokens so far, (B, W, steps) int64."""
        return self.ids[:, :, : self.steps]

    def last_tokens(self) -> Tensor:
        """Last token of each hypothesis, (B, W) int64."""
        return self.ids[:, :, self.steps - 1]

    def averages(self) -> Tensor:
        """Mean log-probability of each hypothesis' tokens, (B, W) float32."""
        return self.sums / self.lengths

    def ranked(self, scores: Tensor, images: Sequence[int]) -> list[list[Hypothesis]]:
        """Hypotheses of `images`, best of `scores` (B, W) first; impossible ones (-inf) are out."""
        chosen = self.kept(torch.tensor(list(images), dtype=torch.int64, device=scores.device))
        scores, order = scores[list(images)].sort(dim=1, descending=True, stable=True)
        chosen = chosen.at(order)
        columns = (chosen.ids, chosen.log_probs, chosen.lengths, scores)
        return [
            [
                Hypothesis(ids[:length], log_probs[:length], score)
                for ids, log_probs, length, score in zip(*image, strict=True)
                if score > -torch.inf
            ]
            for image in zip(*(column.tolist() for column in columns), strict=True)
        ]


_TABLES = tuple(field.name for field in fields(HypothesisTable) if field.name != "steps")
