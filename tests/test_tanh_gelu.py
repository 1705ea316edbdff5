"""GELU in its tanh form against PyTorch's, in value and derivative."""

import pytest
import torch
from torch.nn import functional as F

from prefixcap import tanh_gelu as module
from prefixcap.tanh_gelu import tanh_gelu_


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 21)  # three rows of seven, and a part that is left


def values(dtype):
    """Numbers around 0 and far from it, (11, 7)."""
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(11, 7, generator=generator, dtype=torch.float64)
    x[0, :6] = torch.tensor([0.0, -0.0, 40.0, -40.0, 1e4, -1e4])
    return x.to(dtype).requires_grad_()


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 2**-8)],
)
def test_value_and_gradient_are_torchs(dtype, tolerance):
    x = values(dtype)
    weigh = torch.linspace(-1, 1, x.numel()).view_as(x).to(dtype)
    found = tanh_gelu_(x.clone())
    [gradient] = torch.autograd.grad((found * weigh).sum(), x)
    exact_x = x.detach().double().requires_grad_()
    expected = F.gelu(exact_x, approximate="tanh")
    [wanted] = torch.autograd.grad((expected * weigh.double()).sum(), exact_x)
    assert found.dtype == gradient.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradient.double(), wanted, rtol=4 * tolerance, atol=4 * tolerance)


def test_the_value_is_the_same_without_a_gradient():
    x = values(torch.float32)
    with torch.no_grad():
        alone = tanh_gelu_(x.clone())
    given = x.clone()
    assert torch.equal(alone, tanh_gelu_(given))
    assert torch.equal(alone, given)  # which it is written over


def test_no_rows_give_none():
    assert tanh_gelu_(torch.empty(0, 4, requires_grad=True).clone()).shape == (0, 4)
