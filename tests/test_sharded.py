"""Shards of a task compute what it computes; `test_processes.py` has them in two processes."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from prefixcap.errors import InputError
from prefixcap.processes import ALONE
from prefixcap.recipe import load_recipe
from prefixcap.sharded import gather, gathered, laid_out, scatter, spread, whole
from tests.tiny_clipcap import tiny_batch, tiny_lm, tiny_model
from tests.tiny_run import caption_recipe


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    """A group of this process alone."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


class Captions(nn.Module):
    """Task of one batch without pixels."""

    def __init__(self, **changes: object) -> None:
        super().__init__()
        self.model = tiny_model(**changes)

    def loss(self, batch):
        """Summed loss, number of tokens, and nothing more to log."""
        return *self.model.loss(batch), {}


@pytest.mark.parametrize("frozen", [False, True])
def test_shards_have_the_loss_and_gradients_of_the_task(frozen):
    task = Captions(language_model=tiny_lm(frozen=frozen))
    trained = spread(task, ALONE)
    (expected, count, _), (found, counted, _) = task.loss(tiny_batch()), trained.loss(tiny_batch())
    assert counted == count
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    expected.backward()
    found.backward()
    kinds = {type(block).__name__ for block in trained.model.lm.transformer.h}
    assert kinds == {"FSDPGPT2Block"}  # each block is a unit of its own
    for shard, tensor in zip(trained.parameters(), task.parameters(), strict=True):
        assert shard.requires_grad == tensor.requires_grad
        if tensor.grad is not None:
            torch.testing.assert_close(whole(shard.grad), tensor.grad, rtol=1e-4, atol=1e-5)


def test_weights_go_into_shards_and_come_back():
    task = Captions()
    trained = spread(task, ALONE)
    before = [p.detach().clone() for p in task.parameters()]
    with torch.no_grad():
        for shard in trained.parameters():
            shard.add_(1)
    assert all(map(torch.equal, task.parameters(), before))  # it shares no memory with its shards
    with gathered(trained, task, ALONE.device):
        for tensor, old in zip(task.parameters(), before, strict=True):
            assert torch.equal(tensor, old + 1)
    assert task.model.lm.lm_head.weight is task.model.lm.transformer.wte.weight
    with torch.no_grad():
        for tensor in task.parameters():
            tensor.zero_()
    scatter(task, trained)
    assert not any(whole(shard).any() for shard in trained.parameters())
    gather(task, task)  # one that is not sharded: nothing to do


def test_a_tensor_is_laid_out_as_another_one():
    like = torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensor = torch.arange(120.0).view(2, 3, 4, 5)
    found = laid_out(tensor, like)
    assert torch.equal(found, tensor) and found.stride() == like.stride()


def test_what_cannot_be_sharded_is_refused(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(caption_recipe(tmp_path))
    with pytest.raises(InputError, match=r"train: shard keeps no averaged weights; set ema = 0"):
        load_recipe(path, ["train.shard=true"])
    changes = ["train.shard=true", "train.ema=0"]
    assert load_recipe(path, changes).train.shard
    with pytest.raises(InputError, match=r"train\.shard is for captioners with a language model"):
        load_recipe(path, [*changes, "self_critical.samples=5"])
