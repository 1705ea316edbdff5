"""Muon against its definition."""

import pytest
import torch
from torch import nn

from prefixcap.checkpoint import optimizer_tensors
from prefixcap.muon import COEFFICIENTS, ITERATIONS, Muon, orthogonal
from prefixcap.optim import build_optimizer
from prefixcap.recipe import TrainConfig


class Net(nn.Module):
    """A convolution over pixels, a hidden one and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 6, 3, bias=False), nn.Flatten()
        )
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.layers(x))


def config(**changes) -> TrainConfig:
    return TrainConfig(optimizer="muon", lr=1e-2, warmup_steps=0, eps=1e-8, **changes)


@pytest.mark.parametrize("shape", [(4, 30), (30, 4), (7, 7)])
def test_orthogonal_is_the_polynomial_of_the_matrix_itself(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    first, third, fifth = COEFFICIENTS
    expected = matrix / matrix.norm()
    for _ in range(ITERATIONS):
        square = expected @ expected.T
        expected = first * expected + (third * square + fifth * square @ square) @ expected
    torch.testing.assert_close(orthogonal(matrix), expected)


def test_all_directions_count_alike():
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(16, 40), full_matrices=False)
    found = orthogonal(u @ torch.diag(torch.logspace(0, -1.5, 16)) @ v)
    along = torch.diag(u.T @ found @ v.T)
    assert along.min() > 0.6 and along.max() < 1.25
    assert (u.T @ found @ v.T - torch.diag(along)).abs().max() < 1e-3


def test_only_hidden_convolutions_are_stepped_so():
    net = Net()
    optimizer = build_optimizer(net, config())
    assert isinstance(optimizer, Muon)
    chosen = [p for g in optimizer.param_groups if g["orthogonal"] for p in g["params"]]
    assert [p.shape for p in chosen] == [net.layers[1].weight.shape]


def test_a_first_step_is_the_orthogonal_gradient_beside_the_decay():
    net = Net()
    optimizer = build_optimizer(net, config(weight_decay=0.5))
    weight = net.layers[1].weight
    before, head = weight.detach().clone(), net.head.weight.detach().clone()
    net(torch.randn(5, 3, 5, 5)).square().sum().backward()
    gradient = weight.grad.clone()
    optimizer.step()
    moved = (before * (1 - 1e-2 * 0.5) - weight.detach()).flatten(1)  # (6, 72)
    expected = orthogonal(gradient.flatten(1)) * 1e-2 * 0.2 * 72**0.5
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-6)
    assert not torch.equal(head, net.head.weight)


def test_it_learns():
    net = Net()
    optimizer = build_optimizer(net, config())
    torch.manual_seed(1)
    x, y = torch.randn(16, 3, 5, 5), torch.randn(16, 2)
    losses = []
    for _ in range(60):
        loss = (net(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_layout_in_memory_does_not_change_a_step():
    nets = [Net(), Net().to(memory_format=torch.channels_last)]
    x = torch.randn(5, 3, 5, 5)
    for net in nets:
        optimizer = build_optimizer(net, config())
        for _ in range(2):
            optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(nets[0].layers[1].weight, nets[1].layers[1].weight)


def test_its_state_is_that_of_a_checkpoint():
    net = Net()
    optimizer = build_optimizer(net, config())
    net(torch.randn(5, 3, 5, 5)).sum().backward()
    optimizer.step()
    assert {name.split(".")[1] for name in optimizer_tensors(optimizer)} == {
        "step", "exp_avg", "exp_avg_sq"
    }  # fmt: skip
