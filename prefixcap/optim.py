"""AdamW with a rate per part of the model, warm-up and decay, and averaged weights."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from prefixcap.recipe import TrainConfig
from prefixcap.row_steps import ATTRIBUTE

TWICE = "a weight that is stepped by its rows has a second gradient in the same backward pass"
PENDING = 1 << 24  # bytes of gradients that a backward pass leaves before it steps their weights


def build_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; norms and biases do not decay.

    Parameters of the language model and the encoder take their own rates where the recipe has them.
    """
    rates = {"model.lm": config.lr_language_model, "model.encoder": config.lr_encoder}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = rates.get(".".join(name.split(".")[:2])) or config.lr
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        betas=(0.9, config.beta2),
        eps=config.eps,
        fused=True,  # one pass over memory in place of seven
    )
    optimizer.register_step_post_hook(_count_versions)
    return optimizer


def _count_versions(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Count a stepped weight's version up, as other changes in place do; the fused step does not.

    Decoding arranges weights anew when their versions have changed.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                torch.autograd.graph.increment_version(parameter)


@contextmanager
def stepping_in_backward(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Inside the block, a backward pass steps weights whose gradients are whole, and frees these.

    So the gradients of some weights exist at a time, not of all (Lv et al. 2023, section 3.1); the
    weights become the same. What is left at the end of a backward pass waits for the next
    `optimizer.step()`. Weights whose gradient alone is large are stepped by their rows, where a
    backward pass forms it part by part (`row_steps`). Only where a step is of one backward pass in
    one process, and nothing asks for all gradients together.

    The optimizer's moments are made on entry: between a first step's activations they would leave
    holes in memory that later ones do not fit into.
    """
    waiting = 0
    by_rows: set[nn.Parameter] = set()  # stepped by their rows since the last whole step

    def step_once_enough_wait(parameter: nn.Parameter) -> None:
        nonlocal waiting
        if parameter.grad is None:  # it was stepped by its rows
            return
        if parameter in by_rows:
            raise RuntimeError(TWICE)
        waiting += parameter.grad.nbytes
        if waiting >= PENDING:
            seen = set(by_rows)
            optimizer.step()
            by_rows.update(seen)
            optimizer.zero_grad(set_to_none=True)

    def none_waits(*_: object) -> None:
        nonlocal waiting
        waiting = 0
        by_rows.clear()

    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight in weights:
        _state_of(weight, optimizer)
    hooks = [w.register_post_accumulate_grad_hook(step_once_enough_wait) for w in weights]
    hooks.append(optimizer.register_step_post_hook(none_waits))
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if weight.is_contiguous():  # in other layouts a part of the rows is no block of memory
                setattr(weight, ATTRIBUTE, _AdamRows(optimizer, group, weight, by_rows))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for weight in weights:
            weight.__dict__.pop(ATTRIBUTE, None)


class _AdamRows:
    """Steps one weight as the optimizer would, some rows at a time."""

    def __init__(
        self,
        optimizer: torch.optim.AdamW,
        group: dict[str, Any],
        weight: nn.Parameter,
        stepped: set[nn.Parameter],
    ) -> None:
        self._optimizer, self._group, self._weight = optimizer, group, weight
        self._stepped = stepped

    @torch.no_grad()
    def __call__(self, rows: slice, gradient: Tensor) -> None:
        """Step `rows`, by what the optimizer itself calls for the whole weight.

        Raises:
            RuntimeError: the weight was stepped before in this backward pass.
        """
        if self._weight in self._stepped or self._weight.grad is not None:
            raise RuntimeError(TWICE)
        state, group = _state_of(self._weight, self._optimizer), self._group
        adamw(
            [self._weight[rows]],
            [gradient],
            [state["exp_avg"][rows]],
            [state["exp_avg_sq"][rows]],
            [],
            [state["step"].clone()],  # which this counts up
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def done(self) -> None:
        """Count the step, and the weight's version as other changes in place do."""
        self._stepped.add(self._weight)
        _state_of(self._weight, self._optimizer)["step"] += 1
        torch.autograd.graph.increment_version(self._weight)


def _state_of(weight: nn.Parameter, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state of a weight, begun as AdamW begins it."""
    state = optimizer.state[weight]
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device)
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = torch.zeros_like(weight, memory_format=torch.preserve_format).detach()
    return state


def rate_factor(step: int, steps: int, config: TrainConfig) -> float:
    """Share of the peak rate at `step` (from 0): linear warm-up, then decay to 0 at `steps`.

    With `decay` "none" the rate stays after the warm-up.
    """
    if step < config.warmup_steps:
        return step / config.warmup_steps
    if config.decay == "none":
        return 1.0
    share = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    if config.decay == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return max(0.0, 1.0 - share)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's rate to `factor` times its peak; the first group's rate comes back."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return optimizer.param_groups[0]["lr"]


class AveragedWeights:
    """Exponential moving average of trainable weights and batch-norm statistics."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.step = 0
        self.average = {name: t.detach().clone() for name, t in _averaged(module)}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the present weights; young averages move faster."""
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for name, tensor in _averaged(module):
            self.average[name].lerp_(tensor.detach(), 1 - decay)

    def load(self, average: dict[str, Tensor], step: int) -> None:
        """Go on from the average of an earlier process after `step` updates."""
        self.average = {name: average[name].to(t.device) for name, t in self.average.items()}
        self.step = step

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the average and the module's weights; a second call puts them back."""
        for name, tensor in _averaged(module):
            kept = tensor.detach().clone()
            tensor.copy_(self.average[name])
            self.average[name].copy_(kept)


def _averaged(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Trainable parameters and floating-point buffers, by name."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            yield name, parameter
    for name, buffer in module.named_buffers():
        if buffer.is_floating_point():
            yield name, buffer
