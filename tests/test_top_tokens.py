"""Block-wise search and normalising against torch.topk and float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixcap.top_tokens import log_normalizer, top_tokens


@given(
    vocabulary=st.integers(1, 5000),
    count=st.integers(1, 9),
    levels=st.sampled_from([2, 7, 10**6]),  # few levels: many equal logits
    seed=st.integers(0, 2**31),
)
@settings(max_examples=150, deadline=None)
def test_top_tokens_are_those_of_a_full_search(vocabulary: int, count: int, levels: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(levels, (2, 3, vocabulary), generator=generator).float()
    logits[torch.rand(logits.shape, generator=generator) < 0.2] = -torch.inf
    values, ids = top_tokens(logits, count)
    found = min(count, vocabulary)
    assert torch.equal(values[..., :found], logits.topk(found).values)
    assert torch.equal(logits.gather(-1, ids)[..., :found], values[..., :found])
    possible = [
        [place for place, value in zip(*row, strict=True) if value > -torch.inf]
        for row in zip(ids.flatten(0, 1).tolist(), values.flatten(0, 1).tolist(), strict=True)
    ]
    assert all(len(set(row)) == len(row) for row in possible)


def test_a_small_vocabulary_is_filled_up_with_impossible_tokens():
    values, ids = top_tokens(torch.tensor([[1.0, 2.0]]), 4)
    assert values.tolist() == [[2.0, 1.0, -torch.inf, -torch.inf]]
    assert ids.tolist() == [[1, 0, 0, 0]]


@pytest.mark.parametrize("shift", [0.0, -150.0, 90.0])
@pytest.mark.parametrize("shape", [(1, 7), (3, 41, 50257)])
def test_log_normalizer_equals_float64(shape: tuple[int, ...], shift: float):
    logits = 4 * torch.randn(shape, generator=torch.Generator().manual_seed(0)) + shift
    expected = logits.double().logsumexp(dim=-1, keepdim=True)
    found = log_normalizer(logits)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=0)


def test_log_normalizer_passes_over_impossible_tokens_and_shows_nan():
    logits = torch.tensor([[0.0, -torch.inf, 0.0], [0.0, float("nan"), 1.0]])
    found = log_normalizer(logits)
    assert found[0].item() == pytest.approx(0.6931472)
    assert found[1].isnan()
