"""Hastened layers compute what the plain ones do, whatever happens to their weights."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import QuickGELUActivation

from prefixcap.frozen_layers import FrozenLinear, FrozenQuickGelu, hasten

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 4e-2}


def expected(layer: FrozenLinear, x: torch.Tensor) -> torch.Tensor:
    """The layer's result in float64."""
    bias = None if layer.bias is None else layer.bias.double()
    return F.linear(x.double(), layer.weight.double(), bias)


def assert_right(layer: FrozenLinear, x: torch.Tensor) -> None:
    with torch.inference_mode():
        error = (layer(x).double() - expected(layer, x)).abs().max()
    assert error < TOLERANCE[x.dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(48,), (3, 48), (2, 5, 48)], ids=str)
def test_it_is_a_linear_layer(dtype, bias, shape):
    torch.manual_seed(0)
    layer = FrozenLinear(nn.Linear(48, 40, bias=bias)).to(dtype)
    assert_right(layer, torch.randn(shape, dtype=dtype))


def test_a_weight_that_changes_after_a_call_is_used_in_the_next():
    torch.manual_seed(0)
    layer, x = FrozenLinear(nn.Linear(48, 40)), torch.randn(3, 48)
    assert_right(layer, x)
    with torch.no_grad():
        layer.weight[1, 2] += 1
    assert_right(layer, x)
    with torch.no_grad():
        layer.bias += 1
    assert_right(layer, x)
    layer.load_state_dict(nn.Linear(48, 40).state_dict())
    assert_right(layer, x)
    assert_right(layer.to(torch.bfloat16), x.to(torch.bfloat16))
    assert_right(layer.to(torch.float32), x)


def test_rounding_to_bfloat16_and_back_is_seen():
    torch.manual_seed(0)
    layer, x = FrozenLinear(nn.Linear(48, 40)), torch.randn(3, 48)
    assert_right(layer, x)
    assert_right(layer.to(torch.bfloat16).to(torch.float32), x)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_weights_of_its_own(copied):
    torch.manual_seed(0)
    layer, x = FrozenLinear(nn.Linear(48, 40)), torch.randn(3, 48)
    assert_right(layer, x)
    twin = copied(layer)
    with torch.no_grad():
        twin.weight.zero_()
    assert_right(layer, x)
    assert_right(twin, x)


def test_gradients_flow_where_they_are_asked_for():
    torch.manual_seed(0)
    layer, x = FrozenLinear(nn.Linear(48, 40)), torch.randn(3, 48, requires_grad=True)
    FrozenQuickGelu()(layer(x)).sum().backward()
    plain = x.detach().clone().requires_grad_()
    QuickGELUActivation()(F.linear(plain, layer.weight, layer.bias)).sum().backward()
    assert torch.allclose(x.grad, plain.grad, atol=1e-5)


def test_quick_gelu_is_transformers_and_leaves_its_input_alone():
    x = torch.linspace(-6, 6, 101)
    kept = x.clone()
    with torch.inference_mode():
        found = FrozenQuickGelu()(x)
    assert torch.allclose(found, QuickGELUActivation()(kept), atol=1e-6)
    assert torch.equal(x, kept)


def test_hastening_keeps_names_and_shares_weights():
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 2), QuickGELUActivation()))
    before = dict(network.named_parameters())
    hasten(network)
    after = dict(network.named_parameters())
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert isinstance(network[1][1], FrozenQuickGelu)
