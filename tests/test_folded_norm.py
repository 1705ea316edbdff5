"""A convolution with its batch-norm folded in computes what both do, whatever happens to them."""

import copy
import gc
import pickle

import pytest
import torch
from torch import nn

from prefixcap import folded_norm
from prefixcap.folded_norm import conv_norm

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 8e-2}


class Pair(nn.Module):
    """A convolution without bias and a batch-norm that has seen something."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(6, 12, 3, 2, padding=1, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(12)
        for tensor in (self.norm.weight.data, self.norm.bias.data, self.norm.running_mean):
            tensor.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        """Both as one where nothing is learned."""
        return conv_norm(self.conv, self.norm, x)

    def plain(self, x):
        """Both one after the other, in float64."""
        twin = copy.deepcopy(self).double()
        return twin.norm(twin.conv(x.double()))


def assert_right(pair, dtype=torch.float32):
    x = torch.randn(2, 6, 9, 9, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.inference_mode():
        error = (pair(x).double() - pair.plain(x)).abs().max()
    assert error < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("groups", [1, 6])
def test_it_is_the_convolution_and_the_norm(dtype, groups):
    assert_right(Pair(groups).eval().to(dtype), dtype)


def test_it_is_folded_once(monkeypatch):
    calls, fold = [], folded_norm._fold
    monkeypatch.setattr(folded_norm, "_fold", lambda *given: calls.append(1) or fold(*given))
    pair = Pair().eval()
    assert_right(pair)
    assert_right(pair)
    assert len(calls) == 1


@pytest.mark.parametrize("part", ["conv.weight", "norm.weight", "norm.bias"])
def test_a_weight_that_changes_after_a_call_is_used_in_the_next(part):
    pair = Pair().eval()
    assert_right(pair)
    with torch.no_grad():
        pair.get_parameter(part).add_(1)
    assert_right(pair)


def test_statistics_that_were_learned_and_weights_that_were_loaded_or_cast_are_used():
    pair = Pair().eval()
    assert_right(pair)
    pair.train()(torch.randn(4, 6, 9, 9))
    assert_right(pair.eval())
    pair.load_state_dict({k: v + 0.5 for k, v in pair.state_dict().items()})
    assert_right(pair)
    assert_right(pair.to(torch.bfloat16), torch.bfloat16)
    assert_right(pair.to(torch.float32))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_weights_of_its_own(copied):
    pair = Pair().eval()
    assert_right(pair)
    twin = copied(pair)
    with torch.no_grad():
        twin.conv.weight.zero_()
    assert_right(twin)
    assert_right(pair)
    assert list(twin.state_dict()) == list(Pair().state_dict())


def test_in_training_and_with_gradients_the_norm_is_itself():
    pair, x = Pair(), torch.randn(4, 6, 9, 9)
    with torch.no_grad():
        trained = pair(x)
        assert trained.mean((0, 2, 3)).allclose(pair.norm.bias, atol=1e-5)  # of the batch
    pair.eval()(x).sum().backward()
    assert pair.norm.weight.grad is not None and pair.conv.weight.grad is not None


def test_nothing_is_kept_of_a_network_that_is_gone():
    gc.collect()
    before = len(folded_norm._FOLDED)
    pair = Pair().eval()
    assert_right(pair)
    assert len(folded_norm._FOLDED) == before + 1
    del pair
    gc.collect()
    assert len(folded_norm._FOLDED) == before
