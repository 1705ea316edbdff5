"""What `prefixcap report` is given: training runs, folders of scores, and what is wrong in them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefixcap.errors import InputError
from prefixcap.report.log import TrainingLog, read_log
from prefixcap.score_sheet import ScoreSheet, read_sheet

WEIGHTS = ("model", "encoder.safetensors")  # a run that came to its end has one of them
FINISHED, UNFINISHED, NOT_TRAINED = "finished", "unfinished", "scores only"


@dataclass(frozen=True)
class Run:
    """A folder of a training run, or of scores alone.

    Attributes:
        name: the folder's, or the model's that was scored; unique within a report.
        folder: where it is.
        state: `FINISHED`, `UNFINISHED` or `NOT_TRAINED`, the last for scores without a training.
        recipe: settings as run, {} without a training.
        environment: versions and machine, {} without a training.
        log: losses, validations, time.
        sheets: name of the scores file -> its content.
        problems: a line on everything that is missing or damaged.
        broken: how many of these lines are about damaged files.
    """

    name: str
    folder: Path
    state: str
    recipe: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    log: TrainingLog = field(default_factory=TrainingLog)
    sheets: dict[str, ScoreSheet] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    broken: int = 0

    @property
    def trained_parameters(self) -> int | None:
        """Weights that the training changes, None where nothing says so."""
        return self.log.trained_parameters

    @property
    def loss_kind(self) -> str:
        """Equal for runs whose losses mean the same: data, vocabulary, what is summed."""
        recipe = self.recipe
        language_model, lstm = recipe.get("language_model") or {}, recipe.get("lstm")
        if lstm:
            penalty = lstm.get("doubly_stochastic") if lstm.get("attention") else 0
            vocabulary = ["words", lstm.get("min_count"), penalty]
        else:
            vocabulary = [language_model.get(key) for key in ("name", "vocabulary")]
        smoothing = (recipe.get("train") or {}).get("label_smoothing")
        parts = [recipe.get("stage"), recipe.get("data"), vocabulary, smoothing]
        return json.dumps([*parts, recipe.get("distill")], sort_keys=True)


@dataclass(frozen=True)
class Entry:
    """One run's scores on one split."""

    run: Run
    sheet: ScoreSheet

    @property
    def name(self) -> str:
        """Of the run."""
        return self.run.name

    @property
    def dataset(self) -> str:
        """Format of the dataset."""
        return str(self.sheet.facts.get("dataset") or "unknown")

    @property
    def split(self) -> str:
        """Of the dataset; "all" where none was named."""
        return str(self.sheet.facts.get("split") or "all")


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in `folders`, each once, under names that differ.

    Raises:
        InputError: a folder that is not there, or has neither recipe, model nor scores.
    """
    places = list(dict.fromkeys(Path(folder).resolve() for folder in folders))
    runs = [read_run(place) for place in places]
    names = _distinct([run.name for run in runs], places)
    return [
        Run(**{**vars(run), "name": name}) if name != run.name else run
        for run, name in zip(runs, names, strict=True)
    ]


def read_run(folder: Path) -> Run:
    """The run in `folder`; damaged files are among its problems.

    Raises:
        InputError: there is no such folder, or it holds nothing of a run.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder. Give folders of runs, of scores (prefixcap evaluate) or of "
            "studies"
        )
    files = sorted(folder.glob("scores-*.json"))
    trained = (folder / "recipe.json").is_file()
    if not (trained or files or (folder / "config.json").is_file()):
        raise InputError(
            f"{folder}: neither recipe.json, scores-*.json, config.json nor study.json is there. "
            "Give folders that prefixcap train, evaluate or study wrote"
        )
    sheets, problems = _sheets(files)
    broken = len(problems)
    log = read_log(folder / "log.jsonl")
    if log.damaged:
        problems.append(f"log.jsonl: lines that cannot be read: {log.damaged}")
    recipe, environment = {}, {}
    if trained:
        recipe, environment = (
            _settings(folder / name, problems) for name in ("recipe.json", "environment.json")
        )
    state = _state(folder) if trained else NOT_TRAINED
    problems += _missing(state, log, files, recipe)
    name = folder.name if trained else _source_name(sheets, folder.name)
    return Run(name, folder, state, recipe, environment, log, sheets, problems, broken)


def _sheets(files: Sequence[Path]) -> tuple[dict[str, ScoreSheet], list[str]]:
    """Scores of the files that can be read, and a line on each that cannot."""
    sheets, problems = {}, []
    for file in files:
        try:
            sheets[file.name] = read_sheet(file)
        except InputError as error:
            problems.append(str(error).replace(str(file), file.name))
    return sheets, problems


def _settings(path: Path, problems: list[str]) -> dict[str, Any]:
    """The object in a JSON file, {} and a problem where it is damaged."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        problems.append(f"{path.name}: missing or damaged")
        return {}
    return value


def _state(folder: Path) -> str:
    """Whether a training came to its end: only then are its last weights there."""
    return FINISHED if any((folder / name).exists() for name in WEIGHTS) else UNFINISHED


def _missing(
    state: str, log: TrainingLog, files: Sequence[Path], recipe: dict[str, Any]
) -> list[str]:
    """A line on each thing that a whole run would have."""
    found = []
    if state == UNFINISHED:
        found.append(f"unfinished: stopped or still training, last logged step {log.last_step:,}")
    if not files and recipe.get("stage", "caption") != "distill":
        found.append("no scores yet: prefixcap evaluate writes them")
    return found


def _source_name(sheets: dict[str, ScoreSheet], folder: str) -> str:
    """Name of the one model or file that all scores belong to, else the folder's."""
    sources = {
        Path(str(sheet.facts.get("source", {}).get("name", folder))).name
        for sheet in sheets.values()
    }
    return sources.pop() if len(sources) == 1 else folder


def _distinct(names: Sequence[str], places: Sequence[Path]) -> list[str]:
    """The names; those that several have are followed by their folder."""
    found = []
    for name, place in zip(names, places, strict=True):
        twice = names.count(name) > 1
        own = place.name if place.name != name else place.parent.name
        found.append(f"{name} ({own})" if twice else name)
    return [
        f"{name} #{found[: place + 1].count(name)}" if found.count(name) > 1 else name
        for place, name in enumerate(found)
    ]
