"""Rates, schedules and averaged weights against their formulas."""

import pytest
import torch
from torch import nn

from prefixcap.optim import (
    AveragedWeights,
    build_optimizer,
    rate_factor,
    set_rate,
    stepping_in_backward,
)
from prefixcap.recipe import TrainConfig


class Parts(nn.Module):
    """A task with a model of two parts."""

    def __init__(self):
        super().__init__()
        self.model = nn.ModuleDict({"mapper": nn.Linear(2, 2), "lm": nn.Linear(2, 2)})


def test_a_step_counts_the_versions_of_its_weights_up():
    """Else captions between two steps would be written with the weights before them."""
    task = Parts()
    optimizer = build_optimizer(task, TrainConfig())
    before = [parameter._version for parameter in task.parameters()]
    sum(parameter.sum() for parameter in task.parameters()).backward()
    optimizer.step()
    after = [parameter._version for parameter in task.parameters()]
    assert all(new > old for new, old in zip(after, before, strict=True))


class Tied(nn.Module):
    """A language model in small: one matrix for words and logits, and a layer between."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.words = nn.Parameter(torch.randn(3, 4, generator=generator))
        self.layer = nn.Parameter(torch.randn(4, 4, generator=generator))

    def loss(self):
        return ((self.words[1:] @ self.layer).tanh() @ self.words.T).logsumexp(dim=1).sum()


@pytest.mark.parametrize(("pending", "left"), [(1, 0), (49, 1), (112, 0), (113, 2)])
def test_steps_in_the_backward_pass_leave_the_same_weights_and_fewer_gradients(
    monkeypatch, pending, left
):
    """The layer's 64 bytes of gradients are whole first; the tied words' 48 last."""
    monkeypatch.setattr("prefixcap.optim.PENDING", pending)
    once, early = Tied(), Tied()
    theirs, ours = (build_optimizer(task, TrainConfig(lr=0.1)) for task in (once, early))
    for _ in range(3):
        theirs.zero_grad()
        once.loss().backward()
        theirs.step()
        with stepping_in_backward(ours):
            early.loss().backward()
        assert sum(parameter.grad is not None for parameter in early.parameters()) == left
        ours.step()
        ours.zero_grad()
    assert not torch.equal(early.words, Tied().words)
    assert torch.equal(early.words, once.words)
    assert torch.equal(early.layer, once.layer)


def test_moments_are_made_before_the_first_step_and_those_of_a_checkpoint_stay():
    task = Tied()
    optimizer = build_optimizer(task, TrainConfig())
    own = {"step": torch.tensor(3.0)}
    own |= {name: torch.ones_like(task.layer) for name in ("exp_avg", "exp_avg_sq")}
    optimizer.state[task.layer] = own
    with stepping_in_backward(optimizer):
        assert optimizer.state[task.layer] is own
        made = optimizer.state[task.words]
    assert made.keys() == own.keys()
    assert not any(value.any() for value in made.values())
    assert made["exp_avg"].shape == made["exp_avg_sq"].shape == task.words.shape


def test_after_the_block_a_backward_pass_steps_nothing(monkeypatch):
    monkeypatch.setattr("prefixcap.optim.PENDING", 1)
    task = Tied()
    with stepping_in_backward(build_optimizer(task, TrainConfig())):
        pass
    task.loss().backward()
    assert task.words.grad is not None
    assert torch.equal(task.words, Tied().words)


def test_warm_up_starts_at_zero_and_decays_to_zero():
    config = TrainConfig(warmup_steps=10, decay="linear")
    assert rate_factor(0, 32, config) == 0
    assert rate_factor(5, 32, config) == 0.5
    assert rate_factor(10, 32, config) == 1
    assert rate_factor(21, 32, config) == pytest.approx(0.5)
    assert rate_factor(32, 32, config) == 0


def test_linear_schedule_equals_transformers():
    from transformers import get_linear_schedule_with_warmup

    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    theirs = get_linear_schedule_with_warmup(optimizer, 7, 40)
    config = TrainConfig(warmup_steps=7)
    for step in range(40):
        assert rate_factor(step, 40, config) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_cosine_is_half_way_in_the_middle():
    config = TrainConfig(warmup_steps=0, decay="cosine")
    assert rate_factor(50, 100, config) == pytest.approx(0.5)


def test_without_decay_the_rate_stays_after_the_warm_up():
    config = TrainConfig(warmup_steps=4, decay="none")
    assert [rate_factor(step, 100, config) for step in (2, 4, 99)] == [0.5, 1.0, 1.0]


def test_the_language_model_has_its_own_rate_and_biases_do_not_decay():
    config = TrainConfig(lr=1e-3, lr_language_model=1e-4, weight_decay=0.1)
    optimizer = build_optimizer(Parts(), config)
    groups = {(g["lr"], g["weight_decay"]): len(g["params"]) for g in optimizer.param_groups}
    assert groups == {(1e-3, 0.1): 1, (1e-3, 0.0): 1, (1e-4, 0.1): 1, (1e-4, 0.0): 1}
    set_rate(optimizer, 0.5)
    assert sorted({g["lr"] for g in optimizer.param_groups}) == [5e-5, 5e-4]


def test_frozen_parameters_are_left_out():
    parts = Parts()
    parts.model["lm"].requires_grad_(False)
    optimizer = build_optimizer(parts, TrainConfig())
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 2


def test_average_of_constant_weights_is_that_constant_and_swapping_twice_changes_nothing():
    layer = nn.Linear(2, 2)
    average = AveragedWeights(layer, 0.9)
    before = layer.weight.detach().clone()
    average.update(layer)
    torch.testing.assert_close(average.average["weight"], before)
    with torch.no_grad():
        layer.weight.add_(1)
    average.swap(layer)
    torch.testing.assert_close(layer.weight.detach(), before)
    average.swap(layer)
    torch.testing.assert_close(layer.weight.detach(), before + 1)


def test_average_follows_its_formula():
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
    average = AveragedWeights(layer, 0.5)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    average.update(layer)  # decay min(0.5, 2 / 11)
    assert average.average["weight"].item() == pytest.approx(1 - 2 / 11)
