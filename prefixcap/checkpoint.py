"""Checkpoints of a run: whole or not there, the last few kept, resumed exactly."""

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from prefixcap.errors import InputError
from prefixcap.optim import AveragedWeights
from prefixcap.sharded import laid_out, whole
from prefixcap.tensor_files import save_tensors

STATE_FILE = "state.json"
PATTERN = re.compile(r"step-(\d{8})")


@dataclass
class TrainState:
    """What a run has to remember beside its weights.

    Attributes:
        step: steps done.
        best: best score of a validation so far.
        stale: validations since the best one.
        best_step: step of the best one; None before it, and in checkpoints of earlier releases.
    """

    step: int = 0
    best: float | None = None
    stale: int = 0
    best_step: int | None = None

    def judge(self, score: float) -> bool:
        """Whether this score of a validation is the best so far; it is counted."""
        is_best = self.best is None or score > self.best
        if is_best:
            self.best, self.stale, self.best_step = score, 0, self.step
        else:
            self.stale += 1
        return is_best

    def finished(self, steps: int, patience: int) -> bool:
        """Whether all `steps` are done, or `patience` (0: endless) validations gained nothing."""
        return self.step >= steps or 0 < patience <= self.stale


def save_checkpoint(
    run: Path,
    state: TrainState,
    module: nn.Module,
    optimizer: dict[str, Tensor],
    average: AveragedWeights | None,
    keep: int,
) -> Path:
    """Write `run/checkpoints/step-N` (weights, optimizer, state), then drop old ones.

    `optimizer` is what `optimizer_tensors` gives.
    Random numbers need no state: they follow from the step (`train.step_seed`).

    Raises:
        InputError: a weight is not finite.
        OSError: the disk is full or read-only; every earlier checkpoint is then still whole.
    """
    weights = _trained_tensors(module)
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise InputError(
            f"{run}: after step {state.step} weights are not finite, and were not saved. "
            f"{calmer(run)}"
        )
    folder = run / "checkpoints" / f"step-{state.step:08d}"
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        save_tensors(weights, part / "weights.safetensors")
        save_tensors(optimizer, part / "optimizer.safetensors")
        if average is not None:
            save_tensors(average.average, part / "average.safetensors")
        extra = {**asdict(state), "average_step": average and average.step}
        (part / STATE_FILE).write_text(json.dumps(extra), encoding="utf-8")
        for file in part.iterdir():
            _flush(file)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for old in checkpoints(run)[:-keep]:
        shutil.rmtree(old)
    return folder


def calmer(run: Path) -> str:
    """What to do with a run whose numbers have left the range of its type."""
    found = checkpoints(run)
    kept = f"; {found[-1]} is whole" if found else ""
    return f"Train with a lower train.lr or a train.clip_norm, as --set name=NEW{kept}"


def checkpoints(run: Path) -> list[Path]:
    """Folders of the whole checkpoints of a run, oldest first."""
    folder = run / "checkpoints"
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if PATTERN.fullmatch(path.name))


def load_checkpoint(
    folder: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: AveragedWeights | None,
) -> TrainState:
    """State of the run at `folder`, with module, optimizer and average restored.

    Raises:
        InputError: a file is damaged, or its tensors are not those of this model.
    """
    try:
        extra = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        state = _state(extra)
        load_trained(module, load_file(folder / "weights.safetensors"), str(folder))
        _restore_optimizer(optimizer, load_file(folder / "optimizer.safetensors"))
        if average is not None:
            average.load(load_file(folder / "average.safetensors"), extra["average_step"])
    except (OSError, ValueError, LookupError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder}: is damaged ({error}). {_without(folder)}") from error
    return state


def _state(extra: Any) -> TrainState:
    """The state that a checkpoint's JSON value holds.

    Raises:
        ValueError: it holds none.
    """
    kinds = {
        "step": int,
        "best": float | int | None,
        "stale": int,
        "average_step": int | None,
        "best_step": int | None,
    }
    optional = {"stale": 0, "average_step": None, "best_step": None}
    values = {**optional, **extra} if isinstance(extra, dict) else {}
    wrong = [name for name, kind in kinds.items() if not isinstance(values.get(name, ""), kind)]
    if wrong:
        raise ValueError(f"{STATE_FILE} has no {' and no '.join(wrong)}")
    return TrainState(values["step"], values["best"], values["stale"], values["best_step"])


def _without(folder: Path) -> str:
    """What to do with a damaged checkpoint."""
    if checkpoints(folder.parent.parent)[:-1]:
        return "Remove this folder; the run then continues from the checkpoint before it"
    return "There is none before it: train again under another name with --set name=NEW"


def load_trained(module: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Copy `tensors` into the module; every trained tensor has to be there with its shape.

    Raises:
        InputError: a tensor is missing, left over or of another shape; the first one is named.
    """
    expected = _trained_tensors(module)
    for name, tensor in expected.items():
        if name not in tensors:
            raise InputError(f"{source}: tensor {name} is missing; it is of another model")
        if tensors[name].shape != tensor.shape:
            found, wanted = tuple(tensors[name].shape), tuple(tensor.shape)
            raise InputError(f"{source}: tensor {name} is {found}, this model expects {wanted}")
    extra = sorted(set(tensors) - set(expected))
    if extra:
        raise InputError(f"{source}: tensor {extra[0]} is not in this model; it is of another one")
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(tensors[name])


def _trained_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters and buffers, each once; frozen weights come from elsewhere."""
    seen = {p.data_ptr() for p in module.parameters() if not p.requires_grad}
    tensors = {}
    for name, tensor in module.state_dict().items():
        if tensor.data_ptr() not in seen or tensor.numel() == 0:
            seen.add(tensor.data_ptr())  # tied weights are written once
            tensors[name] = tensor
    return tensors


def optimizer_tensors(optimizer: torch.optim.Optimizer, *, keep: bool = True) -> dict[str, Tensor]:
    """Optimizer state as flat tensors "index.key"; that of shards whole, on the CPU.

    Where there are shards every process has to call it; it comes back empty without `keep`.
    """
    tensors = {}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            value = value if torch.is_tensor(value) else torch.tensor(value)
            gathered = whole(value)
            if keep:
                tensors[f"{index}.{key}"] = value if gathered is value else gathered.cpu()
    return tensors


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put flat tensors "index.key" back; rates are set anew at every step.

    AdamW's fused step on a CPU reads weight and moments side by side in memory, so the moments of a
    weight that is kept channels last have to be kept so too.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        parameter = parameters[int(index)].detach()
        tensor = laid_out(tensor, parameter) if tensor.shape == parameter.shape else tensor
        state.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _flush(file: Path) -> None:
    """Make sure that a written file is on the disk."""
    with file.open("rb") as written:
        os.fsync(written.fileno())
