"""Linear layers for training against torch's own in float64, forward and backward."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.pytorch_utils import Conv1D

from prefixcap import products, row_steps
from prefixcap.products import FastLinear, TrainingLinear, TypedWeight, linear

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2e-2}  # relative


def layer_of(kind):
    torch.manual_seed(0)
    layer = nn.Linear(48, 40) if kind is nn.Linear else Conv1D(40, 48)
    nn.init.normal_(layer.bias)
    return layer


def results(layer, product, dtype):
    """Output, and gradients on the input and on what is trained, of a loss that is not even."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(7, 48, generator=generator).to(dtype).requires_grad_()
    weigh = torch.randn(7, 40, generator=generator).to(dtype)
    wanted = [x, *(p for p in layer.parameters() if p.requires_grad)]
    y = product(x)
    return [y, *torch.autograd.grad((y.to(dtype) * weigh).sum(), wanted)]


@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(
    ("dtype", "few"), [(torch.float32, 0), (torch.bfloat16, 0), (torch.bfloat16, 7)]
)
def test_output_and_gradients_are_those_of_a_linear_layer(monkeypatch, kind, frozen, dtype, few):
    monkeypatch.setattr(products, "FEW", few)
    layer = layer_of(kind).requires_grad_(not frozen)
    product = TrainingLinear(layer)
    found = results(layer, lambda x: product(x, dtype), torch.float32)
    exact_layer = copy.deepcopy(layer).double()
    exact = results(exact_layer, exact_layer, torch.float64)
    assert found[0].dtype is dtype
    assert {g.dtype for g in found[1:]} == {torch.float32}
    assert [g.shape for g in found] == [g.shape for g in exact]
    for got, wanted in zip(found, exact, strict=True):
        assert (got - wanted).norm() < TOLERANCE[dtype] * wanted.norm()


@pytest.mark.parametrize("is_large", [False, True])
def test_the_gradient_of_few_rows_is_not_rounded(monkeypatch, is_large):
    """Only what is multiplied is, as autocast asks."""
    monkeypatch.setattr(products, "LARGE", 100 if is_large else 1 << 22)
    monkeypatch.setattr(row_steps, "ROWS_AT_ONCE", 16)
    layer, x = FastLinear(48, 40), torch.randn(7, 48).bfloat16()
    pull = torch.randn(7, 40).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    [found] = torch.autograd.grad(y, layer.weight, pull)
    exact = pull.double().T @ x.double()
    assert (found - exact).norm() < 1e-6 * exact.norm()
    assert found.dtype is torch.float32


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_frozen_layer_that_changes_is_used_as_it_is_now(dtype):
    layer = layer_of(Conv1D).requires_grad_(False)
    product, x = TrainingLinear(layer), torch.randn(3, 48)
    product(x, dtype)
    layer.load_state_dict(Conv1D(40, 48).state_dict())
    expected = layer(x)
    assert (product(x, dtype) - expected).norm() < TOLERANCE[dtype] * expected.norm()


def test_a_copy_of_a_used_frozen_layer_has_weights_of_its_own():
    layer, x = layer_of(Conv1D).requires_grad_(False), torch.randn(3, 48)
    product = TrainingLinear(layer)
    before = product(x, torch.bfloat16)
    twin = copy.deepcopy(product)
    nn.init.zeros_(twin.layer.weight)
    nn.init.zeros_(twin.layer.bias)
    assert not twin(x, torch.bfloat16).any()
    assert torch.equal(product(x, torch.bfloat16), before)


def test_a_frozen_weight_is_converted_once_and_again_when_it_changed():
    typed, weight = TypedWeight(), torch.randn(4, 3)
    first = typed(weight, torch.bfloat16)
    assert typed(weight, torch.bfloat16) is first
    assert typed(weight, torch.float32).data_ptr() == weight.data_ptr()
    weight.mul_(2)
    assert torch.equal(typed(weight, torch.bfloat16), weight.bfloat16())
    assert torch.equal(copy.deepcopy(typed)(weight, torch.bfloat16), weight.bfloat16())


def test_a_trained_weight_is_converted_each_time():
    typed, weight = TypedWeight(), nn.Parameter(torch.randn(4, 3))
    first = typed(weight, torch.bfloat16)
    assert typed(weight, torch.bfloat16) is not first
    assert not first.requires_grad


@pytest.mark.parametrize("mkl", [True, False])
def test_float32_products_keep_float32_accuracy_for_any_strides(monkeypatch, mkl):
    monkeypatch.setattr(products, "_mkl_is_faster", lambda: mkl)
    torch.manual_seed(0)
    x, weight = torch.randn(120, 33), torch.randn(50, 120)
    exact = F.linear(x.t().double(), weight.double())
    for stored in (weight, weight.t().contiguous().t()):
        assert (linear(x.t(), stored) - exact).norm() < 1e-6 * exact.norm()
    assert linear(x.t()[:0], weight).shape == (0, 50)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_products_with_a_bias_take_any_strides(dtype):
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(s).to(dtype) for s in ((120, 33), (50, 120), (50,)))
    exact = F.linear(x.t().double(), weight.double(), bias.double())
    for stored in (weight, weight.t().contiguous().t()):
        found = linear(x.t(), stored, bias)
        assert found.dtype is dtype
        assert (found - exact).norm() < TOLERANCE[dtype] * exact.norm()
    assert linear(x.t()[:0], weight, bias).shape == (0, 50)


@pytest.mark.parametrize("shape", [(48,), (7, 48), (2, 3, 48), (40, 48), (0, 48)], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("large", [1, 1 << 22])
def test_a_fast_linear_is_a_linear_layer(monkeypatch, shape, dtype, large):
    monkeypatch.setattr(products, "LARGE", large)
    fast = FastLinear(48, 40)
    plain = nn.Linear(48, 40)
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = []
    for layer in (fast, plain):
        inputs = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            y = layer(inputs)
        wanted = [inputs, layer.weight, layer.bias]
        found.append([y, *torch.autograd.grad(y.float().square().sum(), wanted)])
    for got, expected in zip(*found, strict=True):
        assert got.dtype is expected.dtype
        assert got.shape == expected.shape
        assert (got - expected).norm() <= TOLERANCE[dtype] * expected.norm()


@pytest.mark.parametrize(("rows", "is_exact"), [(products.FEW, True), (products.FEW + 1, False)])
def test_a_large_weight_is_not_rounded_for_few_rows(monkeypatch, rows, is_exact):
    monkeypatch.setattr(products, "LARGE", 1)
    torch.manual_seed(0)
    layer, x = FastLinear(96, 64), torch.randn(rows, 96)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert torch.equal(found, F.linear(x, layer.weight, layer.bias).bfloat16()) == is_exact
