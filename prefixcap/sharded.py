"""A task whose weights are spread over the processes that train it, by PyTorch's FSDP2.

Steps are taken on a copy of the task whose weights are shards. What decodes and what writes files
reads whole weights, so the task itself stays in the CPU's memory and is filled when it is wanted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from prefixcap.errors import InputError
from prefixcap.processes import CPU, Processes


def spread(task: nn.Module, processes: Processes) -> nn.Module:
    """Copy of `task` of which each process holds its part of every weight, on its device.

    A transformer block of `task.model.lm` has whole weights in a process while it is computed, all
    other layers together from the start of `loss` to the end of its backward pass. That leaves
    gradients that are sums over the processes. Zhao et al. 2023 (PyTorch FSDP), section 3.2.

    Args:
        task: on the CPU, with the same weights in every process.
        processes: those that were launched; each has to call this.

    Raises:
        InputError: this PyTorch has no shards whose gradients can be summed.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise InputError(
            f"train.shard: PyTorch {torch.__version__} cannot sum the gradients of shards. Update "
            "it: pip install --upgrade torch"
        )
    own = {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in task.parameters()}
    trained = deepcopy(task, own)  # so the weights are not copied here: `fully_shard` does that
    mesh = init_device_mesh(processes.device.type, (processes.count,))
    for module in (*_blocks(trained.model.lm), trained):
        fully_shard(module, mesh=mesh)
        module.set_gradient_divide_factor(1.0)  # the sum, where the default is the mean
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other reduction
    register_fsdp_forward_method(trained, "loss")
    return trained


@torch.no_grad()
def gather(trained: nn.Module, task: nn.Module) -> None:
    """Fill `task` with the trained weights of its shards; every process has to call it.

    Nothing is to be done where `trained` is `task`.
    """
    for shard, tensor in _changing(trained, task):
        tensor.copy_(whole(shard))


@torch.no_grad()
def scatter(task: nn.Module, trained: nn.Module) -> None:
    """Fill the shards with the weights of `task`, the reverse of `gather`."""
    for shard, tensor in _changing(trained, task):
        shard.copy_(laid_out(tensor, shard))


@contextmanager
def gathered(trained: nn.Module, task: nn.Module, device: torch.device) -> Iterator[None]:
    """Inside the block `task` is on the device and has the weights of `trained`."""
    if trained is task:
        yield
        return
    gather(trained, task)
    task.to(device)
    try:
        yield
    finally:
        task.to(CPU)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which this process has a shard; every process has to call it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor in the memory layout of `like`; a shard, where that is one.

    Every process has to call it where there are shards.
    """
    if not hasattr(like, "full_tensor"):
        return torch.empty_like(like).copy_(tensor)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def _blocks(lm: nn.Module) -> list[nn.Module]:
    """The transformer blocks of a language model, which transformers names for such ends."""
    names = set(lm._no_split_modules or ())
    return [module for module in lm.modules() if type(module).__name__ in names]


def _changing(trained: nn.Module, task: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Each trainable shard with the whole tensor of `task`; none where they are one."""
    if trained is not task:
        for shard, tensor in zip(trained.parameters(), task.parameters(), strict=True):
            if shard.requires_grad:
                yield shard, tensor
