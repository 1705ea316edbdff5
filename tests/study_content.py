"""A study's results as `study.json` has them, small."""

from typing import Any


def row(variant: str, value: float | None, **settings: Any) -> dict[str, Any]:
    """A row of two runs, or of a failed one."""
    status = "failed" if value is None else "done"
    score = {} if value is None else {"CIDEr": value}
    run = {"folder": variant, "seed": 0, "status": status, "reason": "" if score else "too long"}
    run |= {"scores": score, "train_scores": {}, "other_scores": {}, "epochs": []}
    run |= {"trained_parameters": 1234, "minutes": 2.0}
    return {
        "variant": variant,
        "settings": settings,
        "overrides": [],
        "recipe": "r.toml",
        "runs": [run, run],
        "n": 2 if score else 0,
        "mean": score,
        "std": {name: 0.05 for name in score},
        "train_mean": score,
        "train_std": {name: None for name in score},
        "other": {"coco": {"mean": score, "std": {name: 0.1 for name in score}}} if score else {},
        "trained_parameters": 1234 if score else None,
        "minutes": 2.0 if score else None,
    }


def content(kind: str = "bars") -> dict[str, Any]:
    """Results of three variants, one of them failed."""
    return {
        "format_version": 1,
        "name": "lengths",
        "title": "Lengths",
        "axes": [{"name": "k", "unit": "vectors", "values": [1, 2, 3]}],
        "figure": {"kind": kind, "metric": "CIDEr", "x": "k"},
        "split": {"name": "dev", "sources": ["flickr8k"], "images": 8, "references": "abc"},
        "tokenizer": "ptb",
        "metrics": ["CIDEr"],
        "not_scored": {"METEOR": "no Java"},
        "seeds": [0, 1],
        "rows": [row("one", 0.4, k=1), row("two", 0.6, k=2), row("three", None, k=3)],
    }
