"""The processes that train together and their devices; Accelerate starts and joins them."""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from prefixcap.errors import InputError

WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # as torchrun and MPI set them
CPU = torch.device("cpu")
BUCKET = 1 << 23  # gradients added at a time: 32 MiB of float32, enough to fill any link


@dataclass(frozen=True)
class Processes:
    """Those of one training run as one of them sees it; by default it is alone.

    Attributes:
        index: of this process; 0 is the main one, which alone writes files.
        count: of processes.
        device: that this process computes on.
    """

    index: int = 0
    count: int = 1
    device: torch.device = CPU

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.index == 0

    def share(self, things: int) -> slice:
        """Places of so many things, in order, that fall to this process."""
        return slice(things * self.index // self.count, things * (self.index + 1) // self.count)

    def take(self, batch: Any) -> Any:
        """The batch with its tensors on this process's device."""
        return _changed(batch, lambda tensor: tensor.to(self.device, non_blocking=True))

    def pinned(self, batch: Any) -> Any:
        """The batch in memory that a GPU copies from while it computes; as it is on a CPU."""
        return _changed(batch, Tensor.pin_memory) if self.device.type == "cuda" else batch

    def sums(self, *values: float) -> list[float]:
        """Each value summed over the processes, in float64."""
        if self.count == 1:
            return list(values)
        from accelerate.utils import reduce

        own = torch.tensor(values, dtype=torch.float64, device=self.device)
        with self._together():
            return reduce(own, "sum").tolist()

    def gathered(self, value: Any) -> list[Any]:
        """The value of every process, in their order; any object that can be pickled."""
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        with self._together():
            return gather_object([value])

    def equal_weights(self, module: nn.Module) -> None:
        """Give every process the main one's parameters and buffers."""
        if self.count == 1:
            return
        for tensor in (*module.parameters(), *module.buffers()):
            # what is kept channels last, or on another device, is a copy
            whole = tensor.detach().to(self.device).contiguous()
            with self._together():
                torch.distributed.broadcast(whole, 0)
            tensor.detach().copy_(whole)

    def add_gradients(self, module: nn.Module) -> None:
        """Replace every gradient by its sum over the processes.

        A parameter without a gradient must be so in all of them.
        """
        if self.count == 1:
            return
        waiting: list[Tensor] = []
        for gradient in [p.grad for p in module.parameters() if p.grad is not None]:
            waiting.append(gradient)
            if sum(tensor.numel() for tensor in waiting) >= BUCKET:
                self._add(waiting)
                waiting = []
        if waiting:
            self._add(waiting)

    def _add(self, gradients: list[Tensor]) -> None:
        """Sum these gradients over the processes, in place and in one message."""
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with self._together():
            torch.distributed.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    @contextmanager
    def _together(self) -> Iterator[None]:
        """What all processes do at the same time.

        Raises:
            InputError: another one has ended.
        """
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error).splitlines()[0].partition(". ")[0]
            raise InputError(
                f"process {self.index} of {self.count} has lost another one, whose own output says "
                f"why it ended ({reason}). The same command continues from the last checkpoint"
            ) from error


ALONE = Processes()


def usable_device(device: str | torch.device | None) -> torch.device:
    """The device asked for; None is a GPU where there is one, else the CPU.

    Raises:
        InputError: there is no such device here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {device}: cannot be used here. `prefixcap doctor` lists what can"
        ) from error
    return found


def joined(device: torch.device) -> Processes:
    """This process among those that were launched with it, each GPU process on a GPU of its own.

    Raises:
        InputError: there are several, but Accelerate is not installed.
    """
    count = max(int(os.environ.get(name, "1")) for name in WORLD_SIZES)
    if count == 1:
        return Processes(device=device)
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise InputError(
            f"{count} processes were launched, which needs Accelerate: pip install "
            "'prefixcap[train]', or start one process"
        ) from error
    state = PartialState(cpu=device.type == "cpu")
    atexit.register(state.destroy_process_group)
    own = device if device.type == "cpu" else state.device
    return Processes(state.process_index, state.num_processes, own)


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Tensors changed in a dataclass or tuple of them, at any depth; all else as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_changed(part, change) for part in value)
    if is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        return replace(value, **{name: _changed(part, change) for name, part in parts.items()})
    return value
