"""The gradient of words that are read and predicted, formed in one place."""

import pytest
import torch
from torch.nn import functional as F

from prefixcap import cross_entropy
from prefixcap.cross_entropy import OutputLayer, chunked_cross_entropy
from prefixcap.late_gradient import LateGradient, WordVectors
from prefixcap.loss_targets import Targets

ROWS, WIDTH, VOCABULARY = 23, 12, 57


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(cross_entropy, "WORDS_AT_ONCE", 16)


def inputs(dtype):
    """Weight, bias, and what each row should predict."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=torch.float64).to(dtype)
    bias = torch.randn(VOCABULARY, generator=generator, dtype=torch.float64).to(dtype)
    ids = torch.randint(0, VOCABULARY, (ROWS,), generator=generator)
    return weight.requires_grad_(), bias, ids


def told(ids):
    """Targets of one token a row."""
    return Targets(ids, torch.arange(ROWS), torch.ones(ROWS))


def test_a_late_gradient_has_the_type_of_its_weight():
    weight, _, ids = inputs(torch.bfloat16)
    late = LateGradient()
    hidden = WordVectors.apply(weight, ids, late)
    chunked_cross_entropy(hidden, OutputLayer(weight), told(ids), late=late).backward()
    assert weight.grad.dtype is torch.bfloat16


@pytest.mark.parametrize("rows_at_once", [5, ROWS])
def test_a_late_gradient_is_formed_with_that_of_the_words(monkeypatch, rows_at_once):
    monkeypatch.setattr(cross_entropy, "ROWS_AT_ONCE", rows_at_once)
    weight, bias, targets = inputs(torch.float64)
    read = targets.flip(0)  # some words twice, some never
    exact = F.cross_entropy(F.linear(weight[read].tanh(), weight, bias), targets, reduction="sum")
    late = LateGradient()
    hidden = WordVectors.apply(weight, read, late).tanh()
    found = chunked_cross_entropy(hidden, OutputLayer(weight, bias), told(targets), late=late)
    torch.testing.assert_close(found, exact)
    [expected] = torch.autograd.grad(exact / 7, weight)
    [together] = torch.autograd.grad(found / 7, weight)
    torch.testing.assert_close(together, expected)


def test_words_that_no_loss_follows_have_their_own_gradient_only():
    weight, _, targets = inputs(torch.float64)
    [found] = torch.autograd.grad(WordVectors.apply(weight, targets, LateGradient()).sum(), weight)
    assert torch.equal(found[:, 0], torch.bincount(targets, minlength=VOCABULARY).double())
