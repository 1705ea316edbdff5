"""`study.json`: what the runs of a study left, put together; docs/studies.md has every key."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from prefixcap.datasets.annotations import read_json
from prefixcap.errors import InputError
from prefixcap.report.log import TrainingLog, read_log
from prefixcap.score_sheet import read_sheet
from prefixcap.study.plan import PlannedRun, Study, planned_runs, variants

FORMAT_VERSION = 1
FILE = "study.json"


def study_results(study: Study, folder: Path, failures: Mapping[str, str]) -> dict[str, Any]:
    """Content of `study.json`, out of the run folders in `folder`.

    Args:
        study: the plan.
        folder: of the study, with a folder for each run.
        failures: name of a run -> why it failed.
    """
    sheets: dict[str, dict[str, Any]] = {}
    rows = []
    for variant in variants(study):
        planned = [run for run in planned_runs(study) if run.variant.name == variant.name]
        runs = [_run(run, study, folder, failures, sheets) for run in planned]
        done = [run for run in runs if run["status"] == "done"]
        rows.append(
            {
                "variant": variant.name,
                "settings": variant.settings,
                "overrides": list(variant.overrides),
                "recipe": variant.recipe,
                "runs": runs,
                "n": len(done),
                "mean": _of_each([run["scores"] for run in done], statistics.fmean),
                "std": _of_each([run["scores"] for run in done], _spread),
                "train_mean": _of_each([run["train_scores"] for run in done], statistics.fmean),
                "train_std": _of_each([run["train_scores"] for run in done], _spread),
                "other": _others([run["other_scores"] for run in done]),
                "trained_parameters": done[0]["trained_parameters"] if done else None,
                "minutes": _mean([run["minutes"] for run in done]),
            }
        )
    return {
        "format_version": FORMAT_VERSION,
        "name": study.name,
        "title": study.title,
        "axes": [_axis(study, number) for number in range(len(study.axes))],
        "figure": study.figure.model_dump(),
        "split": _split(study, list(sheets.values())),
        "tokenizer": study.tokenizer,
        "metrics": list(dict.fromkeys(name for one in sheets.values() for name in one["scores"])),
        "not_scored": {k: v for one in sheets.values() for k, v in one["not_scored"].items()},
        "seeds": list(study.seeds),
        "rows": rows,
    }


def epochs_of(log: TrainingLog, epochs: float, validate_epochs: float) -> list[dict[str, Any]]:
    """Each validation of a run: its epoch, mean training loss since the last, dev loss, CIDEr-D."""
    found = []
    for number, (before, step) in enumerate(pairwise([0, *log.validations]), 1):
        values = log.validations[step]
        losses = [loss for at, loss in log.losses.items() if before < at <= step]
        ciders = [value for name, value in values.items() if name.endswith("CIDEr")]
        found.append(
            {
                "epoch": min(number * validate_epochs, epochs),
                "loss": _mean(losses),
                "dev_loss": values.get("dev_loss"),
                "cider": _mean(ciders),
            }
        )
    return found


def _run(
    run: PlannedRun,
    study: Study,
    folder: Path,
    failures: Mapping[str, str],
    sheets: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """What one run left; the facts of its scores are put into `sheets`."""
    place = folder / run.name
    log = read_log(place / "log.jsonl")
    scores, train = (_scores(place / f"scores-{split}.json") for split in (study.split, "train"))
    others = [_scores(path) for path in sorted(place.glob(f"scores-{study.split}-*.json"))]
    status = "failed" if run.name in failures else "done" if scores else "missing"
    epochs: list[dict[str, Any]] = []
    if (place / "recipe.json").is_file():
        settings = read_json(place / "recipe.json")["train"]
        epochs = epochs_of(log, settings["epochs"], settings["validate_epochs"])
    if scores:
        sheets[run.name] = scores
    reason = failures.get(run.name, "")
    if status == "missing":
        reason = f"unfinished, at step {log.last_step:,}" if log.last_step else "not begun"
    return {
        "folder": run.name,
        "seed": run.seed,
        "status": status,
        "reason": reason,
        "scores": scores["scores"] if scores else {},
        "train_scores": train["scores"] if train and study.train_images else {},
        "other_scores": {one["dataset"]: one["scores"] for one in others if one},
        "epochs": epochs,
        "trained_parameters": log.trained_parameters,
        "minutes": log.seconds / 60 if log.seconds else None,
    }


def _scores(path: Path) -> dict[str, Any] | None:
    """Facts of a scores file, None where there is none."""
    if not path.is_file():
        return None
    try:
        return read_sheet(path).facts
    except InputError:
        return None  # written again by the next run of the study


def _axis(study: Study, number: int) -> dict[str, Any]:
    """An axis with the values that rows have on it."""
    axis = study.axes[number]
    names = list(axis.numbers) or [setting.name for setting in axis.values]
    return {"name": axis.name, "unit": axis.unit, "values": names}


def _split(study: Study, sheets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was scored; images and references only where all runs agree on them."""
    images = {sheet["images"] for sheet in sheets}
    references = {sheet["references"] for sheet in sheets}
    sources = {sheet["dataset"] for sheet in sheets}
    return {
        "name": study.split,
        "sources": sorted(sources),
        "images": images.pop() if len(images) == 1 else None,
        "references": references.pop() if len(references) == 1 else None,
    }


def _of_each(scores: Sequence[Mapping[str, float]], value: Any) -> dict[str, float | None]:
    """`value` of the runs' scores, for each metric that all of them have."""
    names = [name for name in scores[0] if all(name in one for one in scores)] if scores else []
    return {name: value([one[name] for one in scores]) for name in names}


def _others(scores: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Mean and spread on each further data set of the split that all runs have."""
    names = [name for name in scores[0] if all(name in one for one in scores)] if scores else []
    return {
        name: {
            "mean": _of_each([one[name] for one in scores], statistics.fmean),
            "std": _of_each([one[name] for one in scores], _spread),
        }
        for name in names
    }


def _spread(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample, None of one."""
    return statistics.stdev(values) if len(values) > 1 else None


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are known, None where none is."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
