"""Captions from a model that can start from an image and step by one token."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import LongTensor, Tensor

from prefixcap.beam import AverageBeam, Greedy
from prefixcap.config import DecodeOptions
from prefixcap.hypotheses import Choice, Hypothesis, LiveHypotheses
from prefixcap.top_tokens import log_normalizer

__all__ = ["Hypothesis", "StepModel", "StepState", "decode"]

LEAVE_SHARE = 1 / 8  # of the batch: fewer finished images are cheaper to carry along than to drop


class StepState(Protocol):
    """What a model remembers of B images with W hypotheses each."""

    def reorder(self, parents: LongTensor) -> None:
        """Hypothesis w of each image continues hypothesis `parents[:, w]`; (B, W)."""

    def keep(self, images: LongTensor) -> None:
        """Only the images at these places of the batch stay, in this order."""


class StepModel(Protocol):
    """A captioning model as decoding sees it. The returned logits may be overwritten."""

    def start(self, source: Tensor, width: int, max_tokens: int) -> tuple[Tensor, Any]:
        """Logits (B, V) of the first token, and the state of B images with `width` hypotheses."""

    def step(self, ids: Tensor, state: Any) -> Tensor:
        """Logits (B, W, V) of the token after `ids` (B, W) int64; the state moves on."""


class Strategy(Protocol):
    """How the next tokens are chosen, and when an image is finished."""

    width: int

    def choose(self, logits: Tensor, normalizer: Tensor, live: LiveHypotheses) -> Choice:
        """Next tokens from logits (B, W, V), where log p = logits - normalizer (B, W, 1)."""

    def finished(self, live: LiveHypotheses) -> Tensor:
        """Images that need no further step, (B,) bool."""

    def keep(self, images: LongTensor) -> None:
        """Only the images at these places of the batch stay, in this order."""

    def hypotheses(self, live: LiveHypotheses, images: Sequence[int]) -> list[list[Hypothesis]]:
        """The hypotheses of the images at these places, best first."""


@torch.inference_mode()
def decode(
    model: StepModel,
    source: Tensor,
    options: DecodeOptions,
    *,
    stop_ids: frozenset[int],
    forced_ids: Sequence[int] = (),
) -> list[list[Hypothesis]]:
    """`captions_per_image` hypotheses for each image of `source` (B, ...), best first."""
    if len(source) == 0:
        return []
    strategy = _strategy(options)
    stops = torch.tensor(sorted(stop_ids), dtype=torch.int64, device=source.device)
    found = _search(model, source, strategy, stops, options.max_tokens)
    return [hypotheses[: options.captions_per_image] for hypotheses in found]


def _strategy(options: DecodeOptions) -> Strategy:
    """The search that the options name."""
    if options.resolved_method == "beam":
        return AverageBeam(options.beam_size)
    return Greedy()


def _search(
    model: StepModel, source: Tensor, strategy: Strategy, stops: LongTensor, max_tokens: int
) -> list[list[Hypothesis]]:
    """All hypotheses of every image, best first, after at most `max_tokens` steps."""
    logits, state = model.start(source, strategy.width, max_tokens)
    logits = logits[:, None]  # (B, 1, V)
    live = LiveHypotheses.empty(len(source), max_tokens, logits.device)
    rows = list(range(len(source)))  # place in `source` of each image that is still in the batch
    found: list[list[Hypothesis]] = [[] for _ in rows]
    for step in range(max_tokens):
        choice = strategy.choose(logits, log_normalizer(logits), live)
        live.extend(choice, stops)
        finished = strategy.finished(live).tolist()
        if all(finished) or step + 1 == max_tokens:
            break
        if step > 0 and choice.parents is not None:  # the first token continues the prefix itself
            state.reorder(choice.parents)
        if sum(finished) >= LEAVE_SHARE * len(finished):
            leaving = [place for place, done in enumerate(finished) if done]
            for place, hypotheses in zip(leaving, strategy.hypotheses(live, leaving), strict=True):
                found[rows[place]] = hypotheses
            staying = [place for place, done in enumerate(finished) if not done]
            images = torch.tensor(staying, device=logits.device)
            for table in (state, live, strategy):
                table.keep(images)
            rows = [rows[place] for place in staying]
        logits = model.step(live.last_tokens(), state)
    for row, hypotheses in zip(rows, strategy.hypotheses(live, range(len(rows))), strict=True):
        found[row] = hypotheses
    return found
