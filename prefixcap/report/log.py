"""`log.jsonl` of a training run: its loss, its validations, its weights and its time."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NOT_SCORES = {"step", "seconds", "best", "score"}


@dataclass(frozen=True)
class TrainingLog:
    """What a run wrote while it trained; steps that were trained again count once, as trained last.

    Attributes:
        losses: step -> training loss of that step, as logged.
        validations: step -> score name -> value, as logged.
        best_step: step of the best validation, None before the first one.
        trained_parameters: weights that the run changes, None where it did not say.
        seconds: wall-clock time from the first step, validation included, of all its starts.
        damaged: lines that cannot be read.
        left_out: photos that could not be read or are not stored, of training and of dev.
    """

    losses: dict[int, float] = field(default_factory=dict)
    validations: dict[int, dict[str, float]] = field(default_factory=dict)
    best_step: int | None = None
    trained_parameters: int | None = None
    seconds: float = 0.0
    damaged: int = 0
    left_out: int = 0

    @property
    def last_step(self) -> int:
        """The last step that the log knows, 0 before any."""
        return max([0, *self.losses, *self.validations])


def read_log(path: Path) -> TrainingLog:
    """The log at `path`; an empty one where there is none. A line cut off by a kill is counted."""
    if not path.is_file():
        return TrainingLog()
    lines, damaged = [], 0
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        line = _object(text)
        damaged += line is None
        if line is not None:
            lines.append(line)
    losses, validations, best, parameters = {}, {}, None, None
    for line in lines:
        parameters = line.get("trained_parameters", parameters)
        step = line.get("step")
        if not isinstance(step, int):
            continue
        if "loss" in line and "best" not in line:
            losses[step] = line["loss"]
        if "best" in line:
            validations[step] = dict(_values(line))
            best = step if line["best"] else best
    return TrainingLog(
        dict(sorted(losses.items())),
        dict(sorted(validations.items())),
        best,
        parameters,
        _seconds(lines),
        damaged,
        _left_out(lines),
    )


def smoothed(values: Sequence[float]) -> list[float]:
    """Exponential average over a twentieth of the values, over ten at most; few stay as they are.

    Its start is corrected as Adam corrects its moments (Kingma & Ba 2015).
    """
    weight = 1 - 1 / min(10.0, max(1.0, len(values) / 20))
    mean, found = 0.0, []
    for count, value in enumerate(values, 1):
        mean = weight * mean + (1 - weight) * value
        found.append(mean / (1 - weight**count))
    return found


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object in one line, None where it is damaged."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _values(line: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The scores in the line of a validation."""
    for name, value in line.items():
        if name not in NOT_SCORES and isinstance(value, int | float):
            yield name, float(value)


def _left_out(lines: list[dict[str, Any]]) -> int:
    """Photos that the run went without; every start names them again, or counts them."""
    not_stored = 0
    for line in lines:
        not_stored = line.get("photos_not_stored", not_stored)
    return not_stored + len({line["skipped"] for line in lines if "skipped" in line})


def _seconds(lines: list[dict[str, Any]]) -> float:
    """Time between the begin of training and the last line, of every start of the run.

    Each start counts `seconds` from 0 and says how many weights it trains right before its first
    step; what comes before is the reading of photos.
    """
    total, begun, last = 0.0, 0.0, 0.0
    for line in lines:
        now = line.get("seconds")
        if not isinstance(now, int | float):
            continue
        if now < last or "trained_parameters" in line:
            total += max(0.0, last - begun)
            begun = now if "trained_parameters" in line else 0.0
        last = now
    return total + max(0.0, last - begun)
