"""`runs/NAME/`: recipe as run, versions, log and checkpoints of one training run."""

import fcntl
import json
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import prefixcap
from prefixcap.atomic import write_json
from prefixcap.errors import InputError
from prefixcap.recipe import Recipe

FREE_TO_CHANGE = {"log_steps", "checkpoint_minutes", "keep_checkpoints", "threads"}


class RunFolder:
    """A run's files; the same recipe continues, another one is refused."""

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        written = path / "recipe.json"
        present = recipe.model_dump(mode="json")
        if written.exists():
            _refuse_changes(path, _as_run(written), present)
        else:
            write_json(written, present)
            write_json(path / "environment.json", environment())
        self.started = time.monotonic()

    def log(self, **values: Any) -> None:
        """Append one line to `log.jsonl`."""
        line = {"seconds": round(time.monotonic() - self.started, 2), **values}
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises:
            InputError: another process trains in this folder.
        """
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(
                    f"{self.path}: another process is training in this folder. Wait for it, or "
                    f"give this run another name with --set name=..."
                ) from error
            yield


def environment() -> dict[str, str]:
    """Versions and machine that a run's numbers belong to."""
    import safetensors
    import transformers

    return {
        "prefixcap": prefixcap.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "safetensors": safetensors.__version__,
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


def _as_run(path: Path) -> dict[str, Any]:
    """The recipe that a run was begun with; settings that did not exist then at their defaults.

    Raises:
        InputError: the file is damaged, or of a release whose settings are no longer known.
    """
    try:
        return Recipe.model_validate_json(path.read_bytes()).model_dump(mode="json")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path}: cannot be read as the recipe of a run ({reason}). Begin another run with "
            f"--set name=NEW"
        ) from error


def _refuse_changes(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Error that names every setting that differs and matters to the weights."""
    changes = []
    for key, old, new in _differences(before, now, ""):
        if key.rsplit(".", 1)[-1] not in FREE_TO_CHANGE:
            changes.append(f"{key}: was {old!r}, is {new!r}")
    if changes:
        raise InputError(
            f"{path}: this run was begun with other settings ({'; '.join(changes)}). Put them "
            f"back to continue it, or begin another with --set name=NEW"
        )


def _differences(before: Any, now: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Leaves of two JSON values that differ, with their dotted keys."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            inner = f"{key}.{name}" if key else name
            yield from _differences(before.get(name), now.get(name), inner)
    elif before != now:
        yield key, before, now
