"""Search for likely captions: greedy, the original's beam search and the usual one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from prefixcap.hypotheses import Choice, Hypothesis, HypothesisTable, NextTokens
from prefixcap.top_tokens import top_tokens


class Greedy:
    """The likeliest token at every step; one hypothesis per image."""

    width = 1

    def choose(self, following: NextTokens, live: HypothesisTable) -> Choice:
        """The arg-max of logits (B, 1, V)."""
        values, tokens = following.logits.max(dim=-1)
        return Choice(tokens, values - following.normalizer.squeeze(-1))

    def finished(self, live: HypothesisTable) -> Tensor:
        """Images whose caption has stopped, (B,) bool."""
        return live.stopped.all(dim=1)

    def keep(self, images: Tensor) -> None:
        """Nothing is held per image beside the table."""

    def hypotheses(self, live: HypothesisTable, images: Sequence[int]) -> list[list[Hypothesis]]:
        """The caption of each image, scored by its mean log-probability."""
        return live.ranked(live.averages(), images)


class AverageBeam:
    """The original ClipCap's beam search: the average log-probability competes at every step.

    A hypothesis that produced a stop token keeps its slot and its score. An image is finished
    when all its slots have stopped (generate_beam in predict.py of the original code).
    """

    def __init__(self, width: int) -> None:
        self.width = width

    def choose(self, following: NextTokens, live: HypothesisTable) -> Choice:
        """The `width` best continuations by average, from logits (B, W, V)."""
        values, tokens = top_tokens(following.logits, self.width)  # (B, W, K), K = width
        log_probs = values - following.normalizer
        itself = torch.full_like(log_probs, -torch.inf)  # a stopped hypothesis goes on as it is
        itself[..., 0] = 0.0
        log_probs = torch.where(live.stopped[..., None], itself, log_probs)
        lengths = live.lengths + ~live.stopped
        averages = (live.sums[..., None] + log_probs) / lengths[..., None]  # (B, W, K)
        places = averages.flatten(1).topk(self.width, dim=1).indices  # (B, width)
        return _choice_at(places, tokens, log_probs)

    def finished(self, live: HypothesisTable) -> Tensor:
        """Images whose possible hypotheses have all stopped, (B,) bool."""
        return (live.stopped | live.sums.isneginf()).all(dim=1)

    def keep(self, images: Tensor) -> None:
        """Nothing is held per image beside the table."""

    def hypotheses(self, live: HypothesisTable, images: Sequence[int]) -> list[list[Hypothesis]]:
        """All hypotheses of each image, the best average first."""
        return live.ranked(live.averages(), images)


class SumBeam:
    """The usual beam search: live hypotheses compete by the sum of their log-probabilities.

    Finished ones are kept apart, at most `width`, ranked by sum / length ** `length_penalty`. An
    image is finished when they are `width` and the best live one, at its present length, scores no
    better than the worst of them (`generate` of transformers with early_stopping=False).
    """

    def __init__(self, width: int, length_penalty: float) -> None:
        self.width = width
        self.length_penalty = length_penalty
        self._pool: HypothesisTable | None = None  # finished hypotheses, (B, width)
        self._scores = torch.empty(0)  # (B, width), -inf where there is none yet

    def choose(self, following: NextTokens, live: HypothesisTable) -> Choice:
        """The `width` best continuations by sum, from logits (B, W, V)."""
        stops = following.stop_ids
        values, tokens = top_tokens(following.logits, self.width + len(stops))  # (B, W, K)
        log_probs = values - following.normalizer
        sums = (live.sums[..., None] + log_probs).flatten(1)  # (B, W * K)
        # every hypothesis may offer each stop token: enough to have `width` others among the best
        sums, places = sums.topk(min(self.width * (1 + len(stops)), sums.shape[1]), dim=1)
        best = _choice_at(places, tokens, log_probs)
        ends = torch.isin(best.tokens, stops) | following.is_last
        self._collect(best, ends, live)
        going_on = sums.masked_fill(ends, -torch.inf).topk(self.width, dim=1).indices
        alive = log_probs.masked_fill(torch.isin(tokens, stops), -torch.inf)
        return _choice_at(places.gather(1, going_on), tokens, alive)

    def _collect(self, best: Choice, ends: Tensor, live: HypothesisTable) -> None:
        """Put those of the first `width` candidates (B, C) that end into the pool, if better."""
        ended = live.extended(best, best.tokens[:0, 0])  # (B, C)
        scores = ended.sums / ended.lengths**self.length_penalty
        scores = scores.masked_fill(~ends, -torch.inf)
        scores[:, self.width :] = -torch.inf  # worse than `width` others: not a finished one
        if self._pool is not None:
            ended = ended.beside(self._pool)
            scores = torch.cat([scores, self._scores], dim=1)  # (B, C + width)
        self._scores, places = scores.topk(self.width, dim=1)
        self._pool = ended.at(places)

    def finished(self, live: HypothesisTable) -> Tensor:
        """Images in which no live hypothesis promises better than the pool, (B,) bool."""
        promise = (live.sums / live.lengths**self.length_penalty).amax(dim=1)
        return promise <= self._scores.amin(dim=1)

    def keep(self, images: Tensor) -> None:
        """Only the pools of these images stay."""
        self._scores = self._scores[images]
        self._pool = self._pool.kept(images)

    def hypotheses(self, live: HypothesisTable, images: Sequence[int]) -> list[list[Hypothesis]]:
        """The finished hypotheses of each image, best first."""
        return self._pool.ranked(self._scores, images)


def _choice_at(places: Tensor, tokens: Tensor, log_probs: Tensor) -> Choice:
    """Candidates at `places` (B, C) of the flattened candidates (B, W * K)."""
    return Choice(
        tokens=tokens.flatten(1).gather(1, places),
        log_probs=log_probs.flatten(1).gather(1, places),
        parents=places // tokens.shape[2],
    )
