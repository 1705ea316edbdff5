"""Search strategies that keep the likeliest hypotheses: greedy and the original's beam."""

from collections.abc import Sequence

import torch
from torch import LongTensor, Tensor

from prefixcap.hypotheses import Choice, Hypothesis, LiveHypotheses
from prefixcap.top_tokens import top_tokens


class Greedy:
    """The likeliest token at every step; one hypothesis per image."""

    width = 1

    def choose(self, logits: Tensor, normalizer: Tensor, live: LiveHypotheses) -> Choice:
        """The arg-max of logits (B, 1, V)."""
        best, tokens = logits.max(dim=-1)
        return Choice(tokens, best - normalizer.squeeze(-1))

    def finished(self, live: LiveHypotheses) -> Tensor:
        """Images whose caption has stopped, (B,) bool."""
        return live.stopped.all(dim=1)

    def keep(self, images: LongTensor) -> None:
        """Nothing is held per image beside the table."""

    def hypotheses(self, live: LiveHypotheses, images: Sequence[int]) -> list[list[Hypothesis]]:
        """The caption of each image, scored by its mean log-probability."""
        return live.ranked(live.sums / live.lengths, images)


class AverageBeam:
    """The original ClipCap's beam search: the average log-probability competes at every step.

    A hypothesis that produced a stop token keeps its slot and its score. An image is finished
    when all its slots have stopped (generate_beam in predict.py of the original code).
    """

    def __init__(self, width: int) -> None:
        self.width = width

    def choose(self, logits: Tensor, normalizer: Tensor, live: LiveHypotheses) -> Choice:
        """The `width` best continuations by average, from logits (B, W, V)."""
        values, tokens = top_tokens(logits, self.width)  # (B, W, K), K = width
        log_probs = values - normalizer
        only_itself = torch.zeros_like(log_probs).fill_(-torch.inf)
        only_itself[..., 0] = 0.0
        log_probs = torch.where(live.stopped[..., None], only_itself, log_probs)
        lengths = live.lengths + ~live.stopped
        averages = (live.sums[..., None] + log_probs) / lengths[..., None]  # (B, W, K)
        places = averages.flatten(1).topk(self.width, dim=1).indices  # (B, width)
        return Choice(
            tokens=tokens.flatten(1).gather(1, places),
            log_probs=log_probs.flatten(1).gather(1, places),
            parents=places // self.width,
        )

    def finished(self, live: LiveHypotheses) -> Tensor:
        """Images whose possible hypotheses have all stopped, (B,) bool."""
        return (live.stopped | live.sums.isneginf()).all(dim=1)

    def keep(self, images: LongTensor) -> None:
        """Nothing is held per image beside the table."""

    def hypotheses(self, live: LiveHypotheses, images: Sequence[int]) -> list[list[Hypothesis]]:
        """All hypotheses of each image, the best average first."""
        return live.ranked(live.sums / live.lengths, images)
