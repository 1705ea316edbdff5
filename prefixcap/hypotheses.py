"""Captions while they are written: a table of tensors for all images and beams at once."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import LongTensor, Tensor


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
class Choice:
    """The next token of each hypothesis: `tokens` (B, W) int64, `log_probs` (B, W) float32.

    `parents` (B, W) int64 says which hypothesis of the image each one continues; None: its own.
    """

    tokens: Tensor
    log_probs: Tensor
    parents: Tensor | None = None


@dataclass
class LiveHypotheses:
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
    def empty(cls, images: int, max_tokens: int, device: torch.device) -> "LiveHypotheses":
        """One hypothesis without tokens for each image; W is 1 until the first choice."""
        return cls(
            ids=torch.zeros(images, 1, max_tokens, dtype=torch.int64, device=device),
            log_probs=torch.zeros(images, 1, max_tokens, device=device),
            sums=torch.zeros(images, 1, device=device),
            lengths=torch.zeros(images, 1, dtype=torch.int64, device=device),
            stopped=torch.zeros(images, 1, dtype=torch.bool, device=device),
        )

    def extend(self, choice: Choice, stop_ids: LongTensor) -> None:
        """Append the chosen tokens; a hypothesis that has stopped stays as it is."""
        if choice.parents is not None:
            self._follow(choice.parents)
        growing = ~self.stopped
        self.ids[:, :, self.steps] = choice.tokens
        self.log_probs[:, :, self.steps] = choice.log_probs
        self.sums = torch.where(growing, self.sums + choice.log_probs, self.sums)
        self.lengths = self.lengths + growing
        self.stopped = self.stopped | torch.isin(choice.tokens, stop_ids)
        self.steps += 1

    def _follow(self, parents: Tensor) -> None:
        """Hypothesis w of each image becomes a copy of hypothesis `parents[:, w]`."""
        rows = torch.arange(len(parents), device=parents.device)[:, None]  # (B, 1)
        for name in _TABLES:
            setattr(self, name, getattr(self, name)[rows, parents])  # (B, W) or (B, W, T)

    def keep(self, images: LongTensor) -> None:
        """Only the images at these places of the batch stay, in this order."""
        for name in _TABLES:
            setattr(self, name, getattr(self, name)[images])

    def written(self) -> Tensor:
        """Tokens so far, (B, W, steps) int64."""
        return self.ids[:, :, : self.steps]

    def last_tokens(self) -> Tensor:
        """Last token of each hypothesis, (B, W) int64."""
        return self.ids[:, :, self.steps - 1]

    def ranked(self, scores: Tensor, images: Sequence[int]) -> list[list[Hypothesis]]:
        """Hypotheses of `images`, best of `scores` (B, W) first; impossible ones (-inf) are out."""
        order = scores.argsort(dim=1, descending=True, stable=True)
        return [
            [
                self._hypothesis(image, beam, scores)
                for beam in order[image].tolist()
                if scores[image, beam] > -torch.inf
            ]
            for image in images
        ]

    def _hypothesis(self, image: int, beam: int, scores: Tensor) -> Hypothesis:
        """The hypothesis in one place of the table."""
        length = int(self.lengths[image, beam])
        return Hypothesis(
            ids=self.ids[image, beam, :length].tolist(),
            log_probs=self.log_probs[image, beam, :length].tolist(),
            score=float(scores[image, beam]),
        )


_TABLES = tuple(field.name for field in fields(LiveHypotheses) if field.name != "steps")
