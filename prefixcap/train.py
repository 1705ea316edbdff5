"""The training loop; nothing else steps an optimizer."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from prefixcap.batches import BatchSource, prefetched
from prefixcap.checkpoint import TrainState, checkpoints, load_checkpoint, save_checkpoint
from prefixcap.errors import InputError
from prefixcap.optim import AveragedWeights, build_optimizer, rate_factor, set_rate
from prefixcap.recipe import TrainConfig
from prefixcap.run_folder import RunFolder


class Task(Protocol):
    """What `fit` trains: a module whose loss is a sum over `count` tokens or photos."""

    def loss(self, batch: Any) -> tuple[Tensor, int, dict[str, float]]:
        """Summed loss, its count, and values for the log."""


@dataclass(frozen=True)
class Progress:
    """One moment of a run, for the live line."""

    step: int
    steps: int
    loss: float
    rate: float
    seconds_per_step: float
    values: dict[str, float]


@dataclass(frozen=True)
class Validation:
    """How a run's weights are judged: `scores` with a "score" (higher is better), `keep` saves."""

    scores: Callable[[], dict[str, float]]
    keep: Callable[[], None]


class Interrupted(Exception):
    """A signal arrived; the run is saved and continues with the same command."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def fit(
    task: nn.Module,
    source: BatchSource,
    config: TrainConfig,
    run: RunFolder,
    validation: Validation | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> TrainState:
    """Train `task` to the end of its epochs, continuing from the run's last checkpoint.

    At the end `task` holds the averaged weights where the settings ask for an average.

    `validation` judges the averaged weights where there are any; nothing is trained by it, and the
    weights with the best "score" are kept.

    Raises:
        Interrupted: after a signal, once the state is saved.
        InputError: a loss is not a number; the message says at which step and rate.
    """
    torch.manual_seed(config.seed)
    optimizer = build_optimizer(task, config)
    average = AveragedWeights(task, config.ema) if config.ema else None
    steps_per_epoch = source.steps_per_epoch / config.accumulate
    steps = max(1, round(config.epochs * steps_per_epoch))
    validate_steps = max(1, round(config.validate_epochs * steps_per_epoch))
    state = _resume(run, task, optimizer, average)
    keeper = Keeper(run, task, optimizer, average, config)
    task.train()
    with interruptible() as asked_to_stop:
        batches = prefetched(source, state.step * config.accumulate, steps * config.accumulate)
        while state.step < steps:
            began = time.perf_counter()
            rate = set_rate(optimizer, rate_factor(state.step, steps, config))
            mean, values = _add_gradients(task, batches, config)
            if not math.isfinite(mean):
                raise InputError(
                    f"{run.path}: the loss is {mean} at step {state.step} (rate {rate:.3g}). "
                    f"Lower train.lr or set train.clip_norm; the last checkpoint is whole"
                )
            if config.clip_norm:
                nn.utils.clip_grad_norm_(task.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if average is not None:
                average.update(task)
            state.step += 1
            seconds = time.perf_counter() - began
            if on_progress:
                on_progress(Progress(state.step, steps, mean, rate, seconds, values))
            if state.step % config.log_steps == 0:
                run.log(step=state.step, loss=mean, rate=rate, step_s=round(seconds, 4), **values)
            if validation and (state.step % validate_steps == 0 or state.step == steps):
                keeper.validate(state, validation)
            keeper.save_if_due(state, last=state.step == steps or bool(asked_to_stop()))
            if asked_to_stop() and state.step < steps:
                raise Interrupted(asked_to_stop())
    if average is not None:
        average.swap(task)
    return state


def _add_gradients(
    task: nn.Module, batches: Iterator[Any], config: TrainConfig
) -> tuple[float, dict[str, float]]:
    """Mean loss of a step's batches, with the values of the last; their gradients are in `task`.

    The sum of all losses is divided by the count of all batches, so that a batch of long captions
    weighs as it would in one large batch. The first count is divided by at once and the rest is
    mended at the end, since the later ones are not known yet.
    """
    sums, counts, divisor = 0.0, 0, 0
    for _ in range(config.accumulate):
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            loss, count, values = task.loss(batch)
        divisor = divisor or count
        (loss / divisor).backward()
        sums, counts = sums + float(loss.detach()), counts + count
    if config.accumulate > 1:
        for parameter in task.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(divisor / counts)
    return sums / counts, values


class Keeper:
    """Decides when a run is saved, and which of its weights were the best."""

    def __init__(
        self,
        run: RunFolder,
        task: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: AveragedWeights | None,
        config: TrainConfig,
    ) -> None:
        self.run, self.task, self.optimizer = run, task, optimizer
        self.average, self.config = average, config
        self.saved_at = time.monotonic()

    def validate(self, state: TrainState, validation: Validation) -> None:
        """Log the values of the averaged weights and keep these weights if they are the best."""
        with averaged(self.task, self.average):
            self.task.eval()
            values = validation.scores()
            self.task.train()
            best = state.best is None or values["score"] > state.best
            if best:
                state.best = values["score"]
                validation.keep()
        self.run.log(step=state.step, best=best, **values)

    def save_if_due(self, state: TrainState, last: bool) -> None:
        """Write a checkpoint when its time has come, or at the end."""
        if last or time.monotonic() - self.saved_at > 60 * self.config.checkpoint_minutes:
            keep = self.config.keep_checkpoints
            save_checkpoint(self.run.path, state, self.task, self.optimizer, self.average, keep)
            self.saved_at = time.monotonic()


@contextmanager
def averaged(task: nn.Module, average: AveragedWeights | None) -> Iterator[None]:
    """The task with its averaged weights inside the block."""
    if average is not None:
        average.swap(task)
    try:
        yield
    finally:
        if average is not None:
            average.swap(task)


@contextmanager
def interruptible() -> Iterator[Callable[[], int]]:
    """Inside the block SIGTERM and SIGINT are only noted; the yielded function reads the first."""
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _resume(
    run: RunFolder,
    task: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: AveragedWeights | None,
) -> TrainState:
    """State of the run's last checkpoint, or a fresh one."""
    found = checkpoints(run.path)
    return load_checkpoint(found[-1], task, optimizer, average) if found else TrainState()
