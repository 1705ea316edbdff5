"""Tables of a study's results: the scored split, training photos, further data sets."""

from collections.abc import Mapping, Sequence
from typing import Any

from prefixcap.report.tables import Cell, Table

PER_CENT = 100  # papers' tables


def study_tables(results: Mapping[str, Any]) -> list[Table]:
    """The table of the scored split first, then those of what was scored beside it."""
    rows, metrics = results["rows"], results["metrics"]
    split = results["split"]
    where = f"{' + '.join(split['sources'])}, {split['name']}, {_images(split['images'])}"
    scored = where if split["sources"] else f"{split['name']}, nothing scored yet"
    tables = [
        Table(
            results["name"],
            f"{results['title']}. {scored}, {_how(results)}.",
            ["", *metrics, "runs", "parameters", "minutes"],
            [
                [*_scores(row["variant"], row["mean"], row["std"], metrics), *_costs(row)]
                for row in rows
            ],
        )
    ]
    if any(row["train_mean"] for row in rows):
        body = [_scores(r["variant"], r["train_mean"], r["train_std"], metrics) for r in rows]
        caption = f"The same runs on training photos, {_how(results)}."
        tables.append(Table(f"{results['name']}-train", caption, ["", *metrics], body))
    for name in dict.fromkeys(name for row in rows for name in row["other"]):
        parts = [row["other"].get(name, {"mean": {}, "std": {}}) for row in rows]
        body = [
            _scores(row["variant"], part["mean"], part["std"], metrics)
            for row, part in zip(rows, parts, strict=True)
        ]
        caption = f"The same runs on {name}, {split['name']}, {_how(results)}."
        tables.append(Table(f"{results['name']}-{name}", caption, ["", *metrics], body))
    return tables


def problems(results: Mapping[str, Any]) -> list[str]:
    """A line on each run that failed or was not run, and on each metric that was not scored."""
    lines = [
        f"{run['folder']}: {run['status']}" + (f", {run['reason']}" if run["reason"] else "")
        for row in results["rows"]
        for run in row["runs"]
        if run["status"] != "done"
    ]
    not_scored = results["not_scored"].items()
    return lines + [f"{name} is not scored: {reason}" for name, reason in not_scored]


def _how(results: Mapping[str, Any]) -> str:
    """How the scores are meant."""
    seeds = len(results["seeds"])
    over = (
        f"{seeds} seeds" if all(row["n"] == seeds for row in results["rows"]) else "finished runs"
    )
    spread = f", mean ± standard deviation over {over}" if seeds > 1 else ", one seed"
    return f"scores x100, tokenizer {results['tokenizer']}{spread}"


def _images(count: int | None) -> str:
    return "images that differ between the runs" if count is None else f"{count} images"


def _scores(
    name: str,
    mean: Mapping[str, float],
    std: Mapping[str, float | None],
    metrics: Sequence[str],
) -> list[Cell]:
    """The name of a row and its scores."""
    cells = [Cell(name)]
    for metric in metrics:
        if metric not in mean:
            cells.append(Cell())
            continue
        spread = std.get(metric)
        note = "" if spread is None else f" ± {PER_CENT * spread:.1f}"
        cells.append(Cell(f"{PER_CENT * mean[metric]:.1f}{note}"))
    return cells


def _costs(row: Mapping[str, Any]) -> list[Cell]:
    """Finished runs of those planned, trained weights and minutes of a row."""
    parameters, minutes = row["trained_parameters"], row["minutes"]
    return [
        Cell(f"{row['n']} of {len(row['runs'])}"),
        Cell("" if parameters is None else f"{parameters:,}"),
        Cell("" if minutes is None else f"{minutes:.1f}"),
    ]
