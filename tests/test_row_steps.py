"""Weights that are stepped by their rows become what they become as wholes."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from prefixcap import cross_entropy, products, row_steps
from prefixcap.config import MapperConfig
from prefixcap.cross_entropy import OutputLayer, chunked_cross_entropy
from prefixcap.late_gradient import LateGradient, WordVectors
from prefixcap.loss_targets import Targets
from prefixcap.optim import build_optimizer, stepping_in_backward
from prefixcap.products import FastLinear
from prefixcap.recipe import TrainConfig
from prefixcap.row_steps import joined, row_steps_of, rows_of
from tests.tiny_clipcap import tiny_batch, tiny_model

WORDS, WIDTH, ROWS = 57, 12, 23


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(cross_entropy, "WORDS_AT_ONCE", 16)
    monkeypatch.setattr(row_steps, "ROWS_AT_ONCE", 4)  # 48 numbers, whole vectors of the processor
    monkeypatch.setattr(products, "LARGE", 100)


class Tied(nn.Module):
    """Words, a layer that counts as large, and the words again as output layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Parameter(torch.randn(WORDS, WIDTH))
        self.layer = FastLinear(WIDTH, WIDTH)
        self.ids = torch.randint(0, WORDS, (2, ROWS))

    def loss(self):
        late = LateGradient()
        hidden = self.layer(WordVectors.apply(self.words, self.ids[0], late)).tanh()
        targets = Targets(self.ids[1], torch.arange(ROWS), torch.ones(ROWS), smoothing=0.1)
        return chunked_cross_entropy(hidden, OutputLayer(self.words), targets, late=late) / ROWS


@pytest.mark.parametrize(("autocast", "few"), [(False, 0), (True, 0), (True, ROWS)])
def test_weights_moments_and_steps_are_those_of_whole_gradients(monkeypatch, autocast, few):
    monkeypatch.setattr(products, "FEW", few)
    once, early = Tied(), Tied()
    config = TrainConfig(lr=0.1, weight_decay=0.01)
    theirs, ours = (build_optimizer(task, config) for task in (once, early))
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            expected, found = once.loss(), early.loss()
        expected.backward()
        theirs.step()
        theirs.zero_grad()
        stepped = [early.words, early.layer.weight]
        versions = [weight._version for weight in stepped]
        with stepping_in_backward(ours):
            found.backward()
        assert early.words.grad is None
        assert early.layer.weight.grad is None
        assert early.layer.bias.grad is not None  # small, so that it waits for the step
        assert all(w._version > seen for w, seen in zip(stepped, versions, strict=True))
        ours.step()
        ours.zero_grad()
    assert not torch.equal(early.words, Tied().words)
    for name, parameter in once.named_parameters():
        mine = early.get_parameter(name)
        assert torch.equal(mine, parameter), name
        for key, value in theirs.state[parameter].items():
            assert torch.equal(ours.state[mine][key], value), (name, key)


def test_a_weight_is_stepped_by_its_rows_inside_the_block_only():
    task = Tied()
    with stepping_in_backward(build_optimizer(task, TrainConfig())):
        assert row_steps_of(task.words) is not None
    assert row_steps_of(task.words) is None


@pytest.mark.parametrize(
    "loss",
    [lambda task: task.loss() + task.words.square().sum(), lambda task: task.loss() + task.loss()],
)
def test_a_second_gradient_of_such_a_weight_is_refused(loss):
    task = Tied()
    task.layer.requires_grad_(False)  # autograd refuses a changed layer's second product by itself
    optimizer = build_optimizer(task, TrainConfig())
    with stepping_in_backward(optimizer), pytest.raises(RuntimeError, match="a second gradient"):
        loss(task).backward()


def test_a_weight_that_is_no_block_of_memory_is_stepped_as_a_whole():
    task = nn.Module()
    task.weight = nn.Parameter(torch.randn(4, 3).t())
    with stepping_in_backward(build_optimizer(task, TrainConfig())):
        assert row_steps_of(task.weight) is None


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_tuned_captioner_becomes_the_same_with_steps_in_the_backward_pass(precision):
    batch, mapper = tiny_batch(), MapperConfig(kind="mlp", prefix_length=3)
    models = [tiny_model(mapper=mapper).train() for _ in range(2)]
    optimizers = [build_optimizer(model, TrainConfig(lr=0.01)) for model in models]
    for _ in range(3):
        for number, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
                loss, count = model.loss(batch)
            with stepping_in_backward(optimizer) if number else nullcontext():
                (loss / count).backward()
            assert (model.lm.lm_head.weight.grad is None) == bool(number)
            optimizer.step()
            optimizer.zero_grad()
    for name, parameter in models[0].named_parameters():
        assert torch.equal(models[1].get_parameter(name), parameter), name


def test_parts_of_a_gradient_join_to_it():
    gradient = torch.randn(13, 4)
    parts = [(part, gradient[part]) for part in rows_of(13)]
    assert [len(rows) for _, rows in parts] == [4, 4, 4, 1]
    assert torch.equal(joined(gradient.shape, iter(parts)), gradient)
