"""Arranged weights: what they hold, and when they are out of date."""

import copy

import pytest
import torch
from transformers import GPT2LMHeadModel

from prefixcap.gpt2_weights import GPT2Weights, OutputLayer
from tests.step_models import tiny_gpt2


def far_from_zero() -> tuple[torch.Tensor, torch.Tensor]:
    """Output vectors (V, D) and states (N, D) whose logits are near -100, as GPT-2's are."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(200, 32, generator=generator) + 3.0
    return 0.3 * torch.randn(997, 32, generator=generator) - 1.0, hidden


def test_logits_in_float32_are_exact():
    weight, hidden = far_from_zero()
    logits = torch.empty(len(hidden), len(weight))
    OutputLayer(weight)(hidden, logits)
    torch.testing.assert_close(logits, hidden @ weight.t(), atol=1e-4, rtol=1e-6)


def test_log_probs_in_bf16_are_several_times_nearer_than_plain_bf16():
    weight, hidden = far_from_zero()
    half, states = weight.bfloat16(), hidden.bfloat16()
    logits = torch.empty(len(hidden), len(weight))
    OutputLayer(half)(states, logits)
    exact = (states.double() @ half.double().t()).log_softmax(dim=-1)
    plain = (states @ half.t()).double().log_softmax(dim=-1)
    error = (logits.double().log_softmax(dim=-1) - exact).abs().mean()
    assert error < (plain - exact).abs().mean() / 5


def step_of_training(lm: GPT2LMHeadModel) -> None:
    with torch.no_grad():
        lm.transformer.h[1].mlp.c_fc.bias.add_(0.1)


def load_other_weights(lm: GPT2LMHeadModel) -> None:
    lm.load_state_dict(tiny_gpt2(seed=1).state_dict())


def convert(lm: GPT2LMHeadModel) -> None:
    lm.bfloat16()


@pytest.mark.parametrize("change", [step_of_training, load_other_weights, convert])
def test_every_change_of_the_language_model_is_noticed(change):
    lm = tiny_gpt2()
    weights = GPT2Weights(lm)
    assert weights.are_those_of(lm)
    change(lm)
    assert not weights.are_those_of(lm)


def test_a_copy_of_the_language_model_is_another_one():
    lm = tiny_gpt2()
    assert not GPT2Weights(lm).are_those_of(copy.deepcopy(lm))
