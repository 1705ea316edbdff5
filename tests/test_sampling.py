"""Drawn tokens against the distributions they should follow."""

import math

import pytest
import torch
from torch import Tensor

from prefixcap import sampling
from prefixcap.sampling import Filter, draw, random_streams

DRAWS = 20_000
# 0.999 quantiles of chi-square (any table); the seed is fixed, so a test fails always or never
CHI_SQUARE = {2: 13.82, 3: 16.27, 11: 31.26}
LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.5, 0.2, 0.0, -0.2, -0.5, -1.0, -1.5, -2.0, -3.0])


def frequencies(kept: Filter, logits: Tensor = LOGITS) -> Tensor:
    """How often each token was drawn, (V,)."""
    randoms = random_streams(3, [0], 1, DRAWS)[0, 0]
    drawn = draw(logits.expand(DRAWS, -1), kept, randoms)
    return torch.bincount(drawn, minlength=len(logits)).double()


def chi_square(observed: Tensor, expected: Tensor) -> float:
    """Pearson's statistic over the tokens that can occur."""
    possible = expected > 0
    assert observed[~possible].sum() == 0
    counts = expected[possible] * DRAWS
    return float(((observed[possible] - counts) ** 2 / counts).sum())


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
def test_frequencies_follow_the_softmax_at_any_temperature(temperature: float):
    expected = (LOGITS.double() / temperature).softmax(dim=0)
    assert chi_square(frequencies(Filter(temperature=temperature)), expected) < CHI_SQUARE[11]


def test_top_k_draws_the_likeliest_k_in_proportion():
    expected = LOGITS.double().softmax(dim=0)
    expected[4:] = 0
    observed = frequencies(Filter(top_k=4))
    assert chi_square(observed, expected / expected.sum()) < CHI_SQUARE[3]


@pytest.mark.parametrize("first", [2, 256], ids=["by a full sort", "among the likeliest"])
def test_top_p_draws_the_smallest_set_with_that_mass(first: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampling, "NUCLEUS_FIRST", first)
    expected = LOGITS.double().softmax(dim=0)
    top_p = float(expected[:2].sum()) + 0.01  # two tokens fall short of it, three reach it
    expected[3:] = 0
    observed = frequencies(Filter(top_p=top_p))
    assert chi_square(observed, expected / expected.sum()) < CHI_SQUARE[2]


def test_top_p_comes_after_top_k_on_what_is_left():
    three = LOGITS[:4].double().softmax(dim=0)[:3].sum()
    observed = frequencies(Filter(top_k=4, top_p=float(three) - 1e-4))
    assert (observed > 0).tolist() == [True] * 3 + [False] * 9


def test_a_tiny_top_p_or_temperature_is_the_arg_max():
    for kept in (Filter(top_p=1e-9), Filter(temperature=1e-4), Filter(top_k=1)):
        assert frequencies(kept)[0] == DRAWS


@pytest.mark.parametrize("kept", [Filter(), Filter(top_p=0.9), Filter(top_k=3)])
def test_an_excluded_token_is_never_drawn_even_at_the_ends_of_the_random_numbers(kept: Filter):
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]).expand(2, -1)
    ends = torch.tensor([0.0, math.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert set(draw(logits, kept, ends).tolist()) <= {1, 3}


def test_a_large_vocabulary_is_drawn_from_to_its_end():
    logits = torch.full((64, 50257), -20.0)
    logits[:, 50250:] = 0.0
    drawn = draw(logits, Filter(), random_streams(3, [0], 1, 64)[0, 0])
    assert set(drawn.tolist()) == set(range(50250, 50257))


def test_streams_depend_on_both_seeds_and_not_on_the_batch():
    one = random_streams(1, [5], 2, 7)
    batch = random_streams(1, [4, 5, 6], 2, 7)
    assert torch.equal(batch[1], one[0])
    assert not torch.equal(batch[0], batch[1])
    assert not torch.equal(random_streams(2, [5], 2, 7), one)
    assert one.dtype is torch.float64
    assert float(one.min()) >= 0
    assert float(one.max()) < 1
