"""Packed layers against plain products in float64."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from prefixcap import packed_linear
from prefixcap.packed_linear import PackedLinear, PlainLinear, Remade, can_pack, fast_linear

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 8e-3}  # of the largest value


def layer(dtype: torch.dtype, outputs: int = 70, inputs: int = 48) -> tuple[Tensor, Tensor]:
    """Weight (out, in) and bias (out,)."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=generator)
    return weight.to(dtype), torch.randn(outputs, generator=generator).to(dtype)


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("shape", [(1, 48), (65, 48), (3, 7, 48)])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_fast_linear_equals_a_product_in_float64(dtype: torch.dtype, shape, gelu: bool):
    weight, bias = layer(dtype)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = F.linear(x.double(), weight.double(), bias.double())
    if gelu:
        expected = F.gelu(expected, approximate="tanh")
    found = fast_linear(weight, bias, gelu=gelu)(x)
    assert found.dtype is dtype
    error = (found.double() - expected).abs().max() / expected.abs().max()
    assert error < TOLERANCE[dtype]


def test_a_transposed_weight_gives_the_same():
    weight, bias = layer(torch.float32)
    x = torch.randn(5, 48)
    turned = weight.t().contiguous().t()
    assert torch.equal(fast_linear(turned, bias)(x), fast_linear(weight, bias)(x))


def test_a_dtype_without_packed_kernels_is_multiplied_plainly():
    weight, bias = layer(torch.float64)
    found = fast_linear(weight, bias)
    assert isinstance(found, PlainLinear)
    x = torch.randn(5, 48, dtype=torch.float64)
    torch.testing.assert_close(found(x), F.linear(x, weight, bias))


def test_kernels_that_round_float32_are_not_used(monkeypatch: pytest.MonkeyPatch):
    class Rounding(PackedLinear):
        """What a build that multiplies float32 in bf16 would do."""

        def __call__(self, x: Tensor) -> Tensor:
            return super().__call__(x.bfloat16().float())

    can_pack.cache_clear()
    monkeypatch.setattr(packed_linear, "PackedLinear", Rounding)
    assert not can_pack(torch.float32)
    can_pack.cache_clear()


def test_what_is_made_of_tensors_is_made_again_only_once_they_changed():
    remade, first, second = Remade(), torch.ones(2), torch.ones(3)
    made = remade(lambda: [first.sum() + second.sum()], first, None, second)
    assert remade(lambda: [0], first, None, second) is made
    assert remade(lambda: [1], first, None) == [1]  # of other tensors
    assert remade(lambda: [2], first.double(), None) == [2]
    assert remade(lambda: [3], first, None, key="other") == [3]
    first.add_(1)
    assert remade(lambda: [4], first, None, key="other") == [4]
    assert copy.deepcopy(remade)(lambda: [5], first, None, key="other") == [5]


def test_addresses_of_what_something_was_made_of_are_not_given_to_others():
    remade = Remade()
    for number in range(20):
        weight = torch.full((1000,), float(number))  # where the one before was, were it gone
        assert remade(partial(torch.clone, weight), weight)[0] == number
        del weight
