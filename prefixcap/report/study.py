"""`study.json` as `prefixcap study` writes it (docs/studies.md), checked as far as it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from prefixcap.datasets.annotations import read_object
from prefixcap.errors import InputError

KEYS = ("format_version", "name", "title", "axes", "figure", "split", "metrics", "seeds", "rows")
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Study:
    """A study: its file's content, and where it is.

    Attributes:
        folder: of study.json.
        content: as docs/studies.md says.
    """

    folder: Path
    content: dict[str, Any]

    @property
    def name(self) -> str:
        """Folder name of the study."""
        return str(self.content["name"])

    @property
    def title(self) -> str:
        """Heading of the study."""
        return str(self.content["title"])

    @property
    def metrics(self) -> list[str]:
        """Scores in table order."""
        return list(self.content["metrics"])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One per variant."""
        return list(self.content["rows"])

    @property
    def comparable(self) -> bool:
        """Whether all variants were scored on the same images and references."""
        return self.content["split"].get("references") is not None

    @property
    def problems(self) -> list[str]:
        """A line on every run that is missing or failed, and on what was not scored."""
        found = []
        for row in self.rows:
            for run in row.get("runs") or ():
                if run.get("status") != "done":
                    reason = f": {run['reason']}" if run.get("reason") else ""
                    found.append(
                        f"{row['variant']}, seed {run.get('seed')}: {run.get('status')}{reason}"
                    )
        not_scored = self.content.get("not_scored") or {}
        found += [f"{name} is not scored: {why}" for name, why in not_scored.items()]
        if not self.comparable and any(row["mean"] for row in self.rows):
            found.append(
                "the variants were not scored on the same images and references, so their scores "
                "stand apart and are not drawn together"
            )
        return found


def is_study(folder: Path) -> bool:
    """Whether a folder holds a study."""
    return (folder / "study.json").is_file()


def read_study(folder: Path) -> Study:
    """The study in `folder`.

    Raises:
        InputError: its file is damaged, or of another format.
    """
    path = folder / "study.json"
    content = read_object(path, KEYS, "a study's file")
    if content["format_version"] != FORMAT_VERSION:
        raise InputError(
            f"{path}: format {content['format_version']}, this release reads {FORMAT_VERSION}. "
            "Write it again: prefixcap study"
        )
    whole = isinstance(content["rows"], list) and all(
        isinstance(row, dict) and {"variant", "settings", "mean", "std"} <= row.keys()
        for row in content["rows"]
    )
    if not whole or not isinstance(content["split"], dict):
        raise InputError(
            f'{path}: "rows" or "split" is not as docs/studies.md says. Write it again: '
            "prefixcap study"
        )
    return Study(folder, content)


Points = list[tuple[float, float, float]]  # place on the axis, mean x100, deviation x100


def line_points(study: Study, axis: str, metric: str, part: str = "") -> dict[str, Points]:
    """Line label -> its points in order of the axis; rows that are not finished have none.

    Args:
        part: "" for the split's scores, "train_" for those on training photos.
    """
    lines: dict[str, Points] = {}
    for row in study.rows:
        mean = (row.get(f"{part}mean") or {}).get(metric)
        place = row["settings"].get(axis)
        if mean is None or not isinstance(place, int | float):
            continue
        spread = (row.get(f"{part}std") or {}).get(metric) or 0.0
        lines.setdefault(label_without(row, axis), []).append((place, 100 * mean, 100 * spread))
    return {label: sorted(points) for label, points in lines.items()}


def label_without(row: dict[str, Any], axis: str) -> str:
    """The row's settings on all other axes, as a line's label."""
    others = {name: value for name, value in row["settings"].items() if name != axis}
    return ", ".join(
        str(value) if isinstance(value, str) else f"{name} {value}"
        for name, value in others.items()
    )


def epoch_points(row: dict[str, Any], key: str) -> list[tuple[float, float, float]]:
    """(epoch, mean, deviation) over finished seeds of "loss", "dev_loss" or "cider".

    Only epochs that all of these seeds have; the deviation of one seed is 0.
    """
    runs: Sequence[Any] = [run for run in row.get("runs") or () if run.get("status") == "done"]
    by_epoch: dict[float, list[float]] = {}
    for run in runs:
        for one in run.get("epochs") or ():
            if one.get(key) is not None:
                by_epoch.setdefault(one["epoch"], []).append(one[key])
    return [
        (epoch, fmean(values), stdev(values) if len(values) > 1 else 0.0)
        for epoch, values in sorted(by_epoch.items())
        if len(values) == len(runs)
    ]
