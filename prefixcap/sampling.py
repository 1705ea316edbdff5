"""Captions drawn at random, reproducibly: each image has its own stream of random numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prefixcap.hypotheses import Choice, Hypothesis, HypothesisTable, NextTokens
from prefixcap.top_tokens import log_normalizer, top_tokens

NUCLEUS_FIRST = 256  # likeliest tokens that are looked at before the vocabulary is sorted for top-p


@dataclass(frozen=True)
class Filter:
    """The part of the distribution that is drawn from: temperature, then top-k, then top-p."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


class Sampling:
    """`width` captions per image, every token drawn from the filtered distribution."""

    def __init__(self, width: int, kept: Filter, randoms: Tensor) -> None:
        """`randoms` (B, width, T) float64 in [0, 1) decide every draw."""
        self.width = width
        self._filter = kept
        self._randoms = randoms

    def choose(self, following: NextTokens, live: HypothesisTable) -> Choice:
        """One token for each of the `width` hypotheses, from logits (B, W, V)."""
        images, beams, vocabulary = following.logits.shape
        logits = following.logits.expand(images, self.width, vocabulary)
        tokens = draw(logits, self._filter, self._randoms[:, :, live.steps])
        log_probs = logits.gather(-1, tokens[..., None]) - following.normalizer  # (B, width, 1)
        first = torch.zeros_like(tokens)
        return Choice(tokens, log_probs.squeeze(-1), parents=first if beams < self.width else None)

    def finished(self, live: HypothesisTable) -> Tensor:
        """Images whose captions have all stopped, (B,) bool."""
        return live.stopped.all(dim=1)

    def keep(self, images: Tensor) -> None:
        """Only the random numbers of these images stay."""
        self._randoms = self._randoms[images.cpu()]  # they stay on the CPU; the model may not

    def hypotheses(self, live: HypothesisTable, images: Sequence[int]) -> list[list[Hypothesis]]:
        """The captions of each image, the best mean log-probability first."""
        return live.ranked(live.averages(), images)


def random_streams(seed: int, image_seeds: Sequence[int], width: int, length: int) -> Tensor:
    """Numbers in [0, 1), (B, width, length) float64, that depend on nothing but the two seeds.

    Philox is a counter-based generator: the stream of an image is the same in every batch, on every
    machine and device.
    """
    streams = [
        np.random.Generator(np.random.Philox(key=[_word(seed), _word(image_seed)]))
        for image_seed in image_seeds
    ]
    return torch.from_numpy(np.stack([stream.random((width, length)) for stream in streams]))


def _word(seed: int) -> np.uint64:
    """Any integer as an unsigned 64-bit one."""
    return np.uint64(seed % 2**64)


def draw(logits: Tensor, kept: Filter, randoms: Tensor) -> Tensor:
    """Token ids (...) int64 from logits (..., V): where `randoms` (...) falls in the mass kept."""
    scaled = logits / kept.temperature
    if kept.top_k > 0:
        count = min(kept.top_k, scaled.shape[-1])
        values, tokens = top_tokens(scaled, count)
        return _draw_sorted(values.softmax(dim=-1), tokens, kept.top_p, randoms)
    if kept.top_p < 1.0:
        return _draw_nucleus(scaled, kept.top_p, randoms)
    return _pick(scaled.softmax(dim=-1), randoms)


def _draw_nucleus(logits: Tensor, top_p: float, randoms: Tensor) -> Tensor:
    """A token of the smallest set of likeliest tokens with mass `top_p` (Holtzman et al. 2020)."""
    normalizer = log_normalizer(logits)
    values, tokens = top_tokens(logits, min(NUCLEUS_FIRST, logits.shape[-1]))
    probabilities = (values - normalizer).exp()
    if probabilities.sum(dim=-1).min() < top_p:  # a flat distribution: its nucleus is larger
        values, tokens = logits.sort(dim=-1, descending=True)
        probabilities = (values - normalizer).exp()
    return _draw_sorted(probabilities, tokens, top_p, randoms)


def _draw_sorted(probabilities: Tensor, tokens: Tensor, top_p: float, randoms: Tensor) -> Tensor:
    """A token of the nucleus of descending probabilities (..., K) of `tokens` (..., K)."""
    before = probabilities.double().cumsum(dim=-1) - probabilities
    place = _pick(probabilities.masked_fill(before >= top_p, 0.0), randoms)
    return tokens.gather(-1, place[..., None]).squeeze(-1)


def _pick(weights: Tensor, randoms: Tensor) -> Tensor:
    """Index on the last axis of weights (..., K) by inverse cumulative distribution; (...)."""
    cumulative = weights.double().cumsum(dim=-1)
    threshold = randoms[..., None].to(cumulative.device) * cumulative[..., -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
