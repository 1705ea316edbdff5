"""The training loop; nothing else steps an optimizer."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from prefixcap.batches import BatchSource, prefetched
from prefixcap.checkpoint import (
    TrainState,
    calmer,
    checkpoints,
    load_checkpoint,
    optimizer_tensors,
    save_checkpoint,
)
from prefixcap.errors import InputError
from prefixcap.optim import (
    AveragedWeights,
    build_optimizer,
    rate_factor,
    set_rate,
    stepping_in_backward,
)
from prefixcap.pace import COUNTS, Pace
from prefixcap.processes import CPU, Processes
from prefixcap.recipe import TrainConfig
from prefixcap.run_folder import RunFolder
from prefixcap.sharded import gather, gathered, scatter, spread
from prefixcap.signals import interruptible


class Task(Protocol):
    """What `fit` trains: a module whose loss is a sum over `count` tokens or photos."""

    def loss(self, batch: Any) -> tuple[Tensor, int, dict[str, float]]:
        """Summed loss, its count, and values for the log: `COUNTS`, or means over the batch."""


@dataclass(frozen=True)
class Progress:
    """One moment of a run, for the live line; `values` are those of the log."""

    step: int
    steps: int
    loss: float
    values: dict[str, float]


@dataclass(frozen=True)
class Validation:
    """How a run's weights are judged.

    `scores` of the step has a "score" (higher is better), the same in every process; `keep` saves
    the weights. Those that a run starts from are judged too if they are `trained_before`, so that
    the best are never worse than they.
    """

    scores: Callable[[int], dict[str, float]]
    keep: Callable[[], None]
    trained_before: bool = False


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

    It moves to the device of `run.processes`, or its shards do (`config.shard`), and each of them
    trains on its share of every batch, in `run.precision`. At the end it holds averaged weights if
    they are asked for.

    `validation` judges the averaged weights where there are any; nothing is trained by it, and the
    weights with the best "score" are kept.

    Raises:
        Interrupted: after a signal, once the state is saved.
        InputError: a loss is not a number; the message says at which step, batch and rate.
    """
    processes = run.processes
    trained = _begun(task, config, processes).train()
    optimizer = build_optimizer(trained, config)
    average = AveragedWeights(trained, config.ema) if config.ema else None
    steps = step_count(source, config, config.epochs)
    state = _resume(run, (task, trained), optimizer, average)
    keeper = Keeper(run, (task, trained), optimizer, average, config)
    pace = Pace(state.step, steps, processes.device)
    with interruptible() as asked_to_stop, _steps_in_backward(optimizer, config, processes):
        keeper.validate_start(state, validation)
        batches = _batches(source, range(state.step, steps), config, processes)
        while not state.finished(steps, config.patience):
            began = time.perf_counter()
            torch.manual_seed(step_seed(config.seed, state.step, processes.index))
            rate = set_rate(optimizer, rate_factor(state.step, steps, config))
            mean, values, stop = _add_gradients(trained, batches, config, run, asked_to_stop)
            _check_loss(mean, state.step, rate, config, run)
            if config.clip_norm:
                nn.utils.clip_grad_norm_(trained.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if average is not None:
                average.update(trained)
            state.step += 1
            values |= pace.after(state.step, time.perf_counter() - began, values)
            if on_progress:
                on_progress(Progress(state.step, steps, mean, values))
            if state.step % config.log_steps == 0:
                run.log(step=state.step, loss=mean, rate=rate, **values)
            if validation and (state.step == steps or _is_validated(state.step, source, config)):
                keeper.validate(state, validation)
            finished = state.finished(steps, config.patience)
            keeper.save_if_due(state, last=finished or bool(stop))
            if stop and not finished:
                raise Interrupted(stop)
    if average is not None:
        average.swap(trained)
    gather(trained, task)
    return state


def ending(state: TrainState, source: BatchSource, config: TrainConfig) -> str:
    """How a run ended, and which step its best weights are of, in a few words."""
    steps, how = step_count(source, config, config.epochs), "done"
    if state.step < steps:
        validations = f"{state.stale} validation" + "s" * (state.stale > 1)
        how = f"stopped early at step {state.step:,} of {steps:,}: no gain in {validations}"
    return how if state.best_step is None else f"{how}; best/ holds step {state.best_step:,}"


def step_count(source: BatchSource, config: TrainConfig, epochs: float) -> int:
    """Steps of so many epochs, one at least."""
    return max(1, round(epochs * source.steps_per_epoch / config.accumulate))


def _is_validated(step: int, source: BatchSource, config: TrainConfig) -> bool:
    """Whether `step` is the one nearest to a multiple of the epochs between two validations.

    Epochs need not be whole numbers of steps; the last validation then falls on the last step, and
    not on the one before it too.
    """
    interval = max(1.0, config.validate_epochs * source.steps_per_epoch / config.accumulate)
    return step == round(round(step / interval) * interval)


def step_seed(seed: int, step: int, process: int) -> int:
    """Seed of the random numbers, such as dropout's, that one process draws in one step.

    They follow from it alone, so that a run that goes on needs no more than its step.
    """
    drawn = np.random.SeedSequence((seed, step, process)).generate_state(1, np.uint64)
    return int(drawn[0] >> np.uint64(1))


def _steps_in_backward(
    optimizer: torch.optim.Optimizer, config: TrainConfig, processes: Processes
) -> AbstractContextManager[None]:
    """Steps during the backward pass, where no gradient is needed after it.

    A loss that is not a number is found after such a step; these weights are not saved.
    """
    alone = config.accumulate == 1 and processes.count == 1 and not config.clip_norm
    return stepping_in_backward(optimizer) if alone else nullcontext()


def _batches(
    source: BatchSource, steps: range, config: TrainConfig, processes: Processes
) -> Iterator[Any]:
    """The batches of these steps, made while earlier ones are trained on."""
    first, last = steps.start * config.accumulate, steps.stop * config.accumulate
    return prefetched(lambda number: processes.pinned(source.batch(number)), first, last)


def _add_gradients(
    task: nn.Module,
    batches: Iterator[Any],
    config: TrainConfig,
    run: RunFolder,
    asked_to_stop: Callable[[], int],
) -> tuple[float, dict[str, float], int]:
    """Mean loss of a step's batches, their values, and the signal to stop by, 0 for none.

    Their gradients, of all processes, are in `task`. The sum of all losses is divided by the count
    of all batches of all processes, so that a batch of long captions weighs as it would in one
    large batch. The first count is divided by at once and the rest is mended at the end, since the
    others are not known yet. Shards add up gradients of all processes during the backward pass, so
    that there nothing is divided by before.
    """
    processes = run.processes
    sharded = _is_sharded(config, processes)
    sums, divisor, values = [0.0, 0.0], int(sharded), {}
    for _ in range(config.accumulate):
        batch = processes.take(next(batches))
        kind = processes.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=run.precision == "bf16"):
            loss, count, found = task.loss(batch)
        divisor = divisor or count
        (loss / divisor).backward()
        sums = [sums[0] + float(loss.detach()), sums[1] + count]
        for name, value in found.items():
            weighted = value if name in COUNTS else value * count
            values[name] = values.get(name, 0.0) + weighted
    signal_here = asked_to_stop()
    total, count, stops, *summed = processes.sums(*sums, bool(signal_here), *values.values())
    factor = divisor / count
    if factor != 1:
        for parameter in task.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
    if not sharded:
        processes.add_gradients(task)
    values = {
        name: int(value) if name in COUNTS else value / count
        for name, value in zip(values, summed, strict=True)
    }
    return total / count, values, (signal_here or signal.SIGTERM) if stops else 0


def _is_sharded(config: TrainConfig, processes: Processes) -> bool:
    """Whether the processes share the weights, which takes more than one."""
    return config.shard and processes.count > 1


def _begun(task: nn.Module, config: TrainConfig, processes: Processes) -> nn.Module:
    """What steps are taken on, with the main process's weights: `task` on its device, or shards."""
    _check_shares(config, processes)
    if not _is_sharded(config, processes):
        processes.equal_weights(task.to(processes.device))
        return task
    processes.equal_weights(task.to(CPU))
    return spread(task, processes)


def _check_shares(config: TrainConfig, processes: Processes) -> None:
    """Raise where a process would have no image in a step."""
    if config.images_per_step < processes.count:
        raise InputError(
            f"train.images_per_step is {config.images_per_step}, less than the {processes.count} "
            "processes that share each step; raise it or start fewer"
        )


def _check_loss(mean: float, step: int, rate: float, config: TrainConfig, run: RunFolder) -> None:
    """Raise where the loss of a step is not a number."""
    if not math.isfinite(mean):
        first, last = step * config.accumulate, (step + 1) * config.accumulate - 1
        batch = f"batch {first}" if first == last else f"batches {first} to {last}"
        raise InputError(
            f"{run.path}: the loss is {mean} at step {step} ({batch}, rate {rate:.3g}). "
            f"{calmer(run.path)}"
        )


class Keeper:
    """Decides when a run is saved, and which of its weights were the best.

    `tasks` are the one with whole weights and the one that is trained: the same, or its shards.
    """

    def __init__(
        self,
        run: RunFolder,
        tasks: tuple[nn.Module, nn.Module],
        optimizer: torch.optim.Optimizer,
        average: AveragedWeights | None,
        config: TrainConfig,
    ) -> None:
        self.run, self.optimizer = run, optimizer
        self.task, self.trained = tasks
        self.average, self.config = average, config
        self.saved_at = time.monotonic()

    def validate(self, state: TrainState, validation: Validation) -> None:
        """Log the values of the averaged weights and keep these weights if they are the best."""
        device = self.run.processes.device
        with averaged(self.trained, self.average), gathered(self.trained, self.task, device):
            self.task.eval()
            values = validation.scores(state.step)
            self.task.train()
            best = state.judge(values["score"])
            if best and self.run.processes.is_main:
                validation.keep()
        self.run.log(step=state.step, best=best, **values)

    def validate_start(self, state: TrainState, validation: Validation | None) -> None:
        """The same of the weights that a run starts from, where they were trained before."""
        if validation and validation.trained_before and state.step == 0:
            self.validate(state, validation)

    def save_if_due(self, state: TrainState, last: bool) -> None:
        """Write a checkpoint when its time has come, or at the end."""
        processes = self.run.processes
        is_due = time.monotonic() - self.saved_at > 60 * self.config.checkpoint_minutes
        if _is_sharded(self.config, processes):  # all have to gather at the same step
            is_due = bool(processes.sums(is_due)[0])
        elif not processes.is_main:
            return
        if not last and not is_due:
            return
        gather(self.trained, self.task)
        tensors = optimizer_tensors(self.optimizer, keep=processes.is_main)
        if processes.is_main:
            keep = self.config.keep_checkpoints
            save_checkpoint(self.run.path, state, self.task, tensors, self.average, keep)
            self.run.note_saved()
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


def _resume(
    run: RunFolder,
    tasks: tuple[nn.Module, nn.Module],
    optimizer: torch.optim.Optimizer,
    average: AveragedWeights | None,
) -> TrainState:
    """State of the run's last checkpoint, or a fresh one.

    Raises:
        InputError: the checkpoint is damaged, or not every process finds the same.
    """
    found = checkpoints(run.path)
    seen = run.processes.gathered(found[-1].name if found else "none")
    if len(set(seen)) > 1:
        raise InputError(
            f"{run.path}: the processes found different checkpoints there ({', '.join(seen)}). "
            "Give --runs a folder that all machines share"
        )
    if not found:
        return TrainState()
    state = load_checkpoint(found[-1], tasks[0], optimizer, average)
    scatter(*tasks)
    return state
