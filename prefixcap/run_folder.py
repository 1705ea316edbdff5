"""`runs/NAME/`: recipe as run, versions, log and checkpoints of one training run."""

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import prefixcap
from prefixcap.atomic import write_json
from prefixcap.board import Board
from prefixcap.errors import InputError
from prefixcap.precision import fast_precision
from prefixcap.processes import Processes, usable_device
from prefixcap.recipe import Recipe
from prefixcap.run_data import data_change, data_sheet, held_data, noted_photos

RECIPE_FILE, DATA_FILE, LOG_FILE = "recipe.json", "data.json", "log.jsonl"
LEFT_OUT_FILE = "left_out.json"
LOCK_FILE, SAVED_FILE = ".lock", ".saved"  # the second: a checkpoint was written once
LAST_WEIGHTS = ("model/config.json", "encoder.safetensors")  # written after the last step
BEST_WEIGHTS = "best/config.json"
WRITTEN = (
    RECIPE_FILE,
    DATA_FILE,
    LEFT_OUT_FILE,
    LOG_FILE,
    "environment.json",
    "checkpoints",
    "best",
    "model",
    "encoder.safetensors",
)
FREE_TO_CHANGE = {
    "log_steps",
    "checkpoint_minutes",
    "keep_checkpoints",
    "threads",
    "device",
    "tensorboard",
    "shard",
}


class RunFolder:
    """A run's files; the same recipe continues, another one is refused.

    Attributes:
        path: of the folder.
        processes: those that train in it; only the main one writes.
        board: TensorBoard's files, in the main process and where the recipe wants them.
        has_begun: whether it goes on, and does not begin now.
        precision: "fp32" or "bf16", as the recipe says; where that is "auto", what the run was
            begun in, which is bf16 where that is fast.
        missing: why there is no board although the recipe wants one, else "".
        finished: whether it was trained to its end and its checkpoints were deleted since; trained
            again, it would begin at step 0.
    """

    def __init__(self, path: Path, recipe: Recipe, processes: Processes | None = None) -> None:
        """`processes` None: this one alone, on the recipe's device.

        Raises:
            InputError: the run was begun with other settings or has lost its checkpoints, or the
                folder is not a run's and files in it would be written over.
        """
        processes = processes or Processes(device=usable_device(recipe.train.device or None))
        self.path, self.processes = path, processes
        self.finished = False
        written = path / RECIPE_FILE
        # the main process decides: others may find its lock, or nothing on another machine
        before, precision = None, ""
        if processes.is_main:
            before = _as_run(written) if written.exists() and _has_begun(path) else None
            precision = _precision(recipe, before, processes.device)
        before, self.precision = processes.gathered((before, precision))[0]
        self.has_begun = before is not None
        present = recipe.model_dump(mode="json")
        present["train"]["precision"] = self.precision
        if before is not None:
            _refuse_changes(path, before, present)
            if not _has_checkpoint(path):
                self.finished = any((path / file).exists() for file in LAST_WEIGHTS)
                _refuse_lost(path, self.finished)
        elif processes.is_main:
            _refuse_foreign(path)
            path.mkdir(parents=True, exist_ok=True)
            for file in (DATA_FILE, LEFT_OUT_FILE, LOG_FILE, SAVED_FILE):
                (path / file).unlink(missing_ok=True)
            write_json(written, present)
            write_json(path / "environment.json", environment())
        self.started = time.monotonic()
        self.board: Board | None = None
        self.missing = ""
        if recipe.train.tensorboard and processes.is_main:
            try:
                self.board = Board(path / "tensorboard")
            except InputError as error:
                self.missing = f"{error}. The run goes on without"

    def log(self, **values: Any) -> None:
        """Append one line to `log.jsonl`; the numbers of a step go to the board too."""
        if not self.processes.is_main:
            return
        line = {"seconds": round(time.monotonic() - self.started, 2), **values}
        with (self.path / LOG_FILE).open("a", encoding="utf-8") as file:
            cut_off = self._is_cut_off()  # by a full disk
            file.write("\n" * cut_off + json.dumps(line) + "\n")
        if self.board is not None and "step" in values:
            step = values.pop("step")
            self.board.scalars(step, values)

    def _is_cut_off(self) -> bool:
        """Whether the log's last line has no end."""
        with (self.path / LOG_FILE).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            return file.read() not in (b"", b"\n")

    def note_saved(self) -> None:
        """Remember that there has been a checkpoint, which a run without any cannot tell."""
        (self.path / SAVED_FILE).touch()

    def hold_data(self, **parts: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Note the data that the run was begun with: ids of photos and their captions, in order.

        Raises:
            InputError: it was begun with other data, and the message says what differs; or the
                file is damaged that says which.
        """
        if not self.processes.is_main:
            return
        written = self.path / DATA_FILE
        present = {name: data_sheet(part) for name, part in parts.items()}
        if not written.exists():
            write_json(written, present)
            return
        before = held_data(written)
        changes = [
            f"{name}: {data_change(before[name], sheet)}"
            for name, sheet in present.items()
            if name in before and before[name] != sheet
        ]
        if changes:
            raise InputError(
                f"{self.path}: this run was begun with other data ({'; '.join(changes)}). Put it "
                f"back to continue the run, or begin another with --set name=NEW"
            )

    def hold_rest(self, **digests: str) -> None:
        """Note what else the run was begun with, as hashes by what they are of.

        Raises:
            InputError: it was begun with something else, and the message says what; or the file
                is damaged that says it.
        """
        if not self.processes.is_main:
            return
        written = self.path / DATA_FILE
        held = held_data(written) if written.exists() else {}
        before = held.get("rest", {})
        changed = [name for name, digest in digests.items() if before.get(name, digest) != digest]
        if changed:
            names = " and ".join(changed).replace("_", " ")
            raise InputError(
                f"{self.path}: this run was begun with other {names} under the same names. "
                "Put them back to continue the run, or begin another with --set name=NEW"
            )
        write_json(written, {**held, "rest": {**before, **digests}})

    def left_out(self, why: str, missing: Iterable[str]) -> set[str]:
        """Ids of the photos that the run goes without, of those that are left out for one reason.

        They are what is `missing` in any of its processes, and what was as it began: that stays
        left out where it has come back since, so that every batch is that of a run that was never
        stopped. Whether others got lost meanwhile, `hold_data` and `hold_rest` find.

        Raises:
            InputError: the file that says what it began without is damaged.
        """
        file = self.path / LEFT_OUT_FILE
        noted = noted_photos(file) if self.processes.is_main else {}
        seen = self.processes.gathered((set(missing), noted.get(why, ()) if self.has_begun else ()))
        lacking = set().union(*(own for own, _ in seen))
        if self.processes.is_main and not self.has_begun:
            write_json(file, {**noted, why: sorted(lacking)})
        return lacking.union(seen[0][1])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process and those that train with it.

        Raises:
            InputError: another process trains in this folder.
        """
        if not self.processes.is_main:
            yield
            return
        with (self.path / LOCK_FILE).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(
                    f"{self.path}: another process is training in this folder. Wait for it, or "
                    f"give this run another name with --set name=..."
                ) from error
            yield


def _has_begun(path: Path) -> bool:
    """Whether a run has taken steps that it kept, or may yet; one that failed before has not.

    So a recipe can be mended under the same name.
    """
    kept = (path / name for name in ("checkpoints", BEST_WEIGHTS, *LAST_WEIGHTS))
    if any(file.exists() for file in kept) or _has_logged_steps(path):
        return True
    if not (path / LOCK_FILE).exists():
        return False
    with (path / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # a process is about to begin
            return True
    return False


def _has_logged_steps(path: Path) -> bool:
    """Whether the run's log has the line of a step."""
    log = path / LOG_FILE
    return log.exists() and b'"step":' in log.read_bytes()


def _has_checkpoint(path: Path) -> bool:
    """Whether there is a whole checkpoint to go on from."""
    return any((path / "checkpoints").glob("step-*"))


def _refuse_lost(path: Path, finished: bool) -> None:
    """Raise where a run that is not `finished` had checkpoints, and has none.

    One that was killed before its first begins again, and finds the same weights as before.
    """
    if (path / SAVED_FILE).exists() and not finished:
        raise InputError(
            f"{path}: this run has begun, but its checkpoints are gone; it would begin again at "
            "step 0, over what is left of it. Begin another with --set name=NEW, or delete this "
            "folder"
        )


def _refuse_foreign(path: Path) -> None:
    """Raise where a run would write over files that no run has written."""
    found = [name for name in WRITTEN if (path / name).exists()]
    if found and not _is_recipe(path / RECIPE_FILE):
        raise InputError(
            f"{path}: is not the folder of a run, and {', '.join(found)} in it would be written "
            "over. Train under another name with --set name=NEW, or move them away"
        )


def _is_recipe(path: Path) -> bool:
    """Whether a run wrote this file, of this release or another."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"name", "stage", "data", "train"} <= found.keys()


def _precision(recipe: Recipe, before: dict[str, Any] | None, device: torch.device) -> str:
    """The precision of a run on `device`, by its recipe and as it was begun."""
    asked = recipe.train.precision
    if asked == "auto" and before is not None:
        asked = before["train"]["precision"]
    return fast_precision(device) if asked == "auto" else asked


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
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _differences(old, new, f"{key}.{number}")
    elif before != now:
        yield key, before, now
