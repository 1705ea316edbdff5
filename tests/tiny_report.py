"""Run folders and studies as files alone, for tests of reports: nothing is trained for them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefixcap import datasets
from prefixcap.score_sheet import Scoring, score_sheet, write_sheet
from tests.tiny_run import write_photos

METRICS = ["BLEU-4", "CIDEr"]


def photos(folder: Path) -> Path:
    """Eight photos in split dev and sixteen in train, in Flickr8k's format."""
    return write_photos(folder / "photos")


def captions_of(data: Path, text: str | None = None) -> dict[str, str]:
    """Image id -> a right caption, or `text` for all."""
    records = datasets.read("flickr8k", data, "dev")
    return {record.image_id: text or record.captions[0] for record in records}


def write_scores(
    folder: Path, data: Path, captions: Mapping[str, str], tokenizer: str = "ptb"
) -> Path:
    """Path of scores-dev.json, as `prefixcap evaluate` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    records = datasets.read("flickr8k", data, "dev")
    sheet = score_sheet(captions, records, Scoring(tokenizer=tokenizer))
    facts = {
        "source": {"kind": "model", "name": folder.name},
        "dataset": "flickr8k",
        "split": "dev",
        "data": {"path": str(data), "images": None},
        **sheet.facts,
    }
    write_sheet(folder / "scores-dev.json", replace(sheet, facts=facts))
    return folder / "scores-dev.json"


def write_run(
    folder: Path, data: Path, captions: Mapping[str, str] | None, finished: bool = True
) -> Path:
    """A run folder with two starts in its log; scored where there are captions."""
    folder.mkdir(parents=True, exist_ok=True)
    source = {"format": "flickr8k", "path": str(data), "split": "dev"}
    recipe = {"name": folder.name, "stage": "caption", "data": [source], "dev": [source]}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    (folder / "environment.json").write_text(json.dumps({"machine": "x86_64", "torch": "2.6"}))
    lines: list[dict[str, Any]] = [
        {"seconds": 3, "trained_parameters": 1_500_000},
        *({"seconds": 3 + step, "step": step, "loss": 5 / step} for step in (1, 2, 3)),
        {
            "seconds": 7,
            "step": 3,
            "best": True,
            "flickr8k CIDEr": 0.25,
            "dev_loss": 3.5,
            "score": 1,
        },
        {"seconds": 2, "trained_parameters": 1_500_000},
        {"seconds": 4, "step": 3, "loss": 2.5},
        {"seconds": 6, "step": 4, "loss": 2.0},
        {"seconds": 8, "step": 4, "best": False, "flickr8k CIDEr": 0.2, "score": 0.9},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        (folder / "model").mkdir()
    if captions is not None:
        write_scores(folder, data, captions)
    return folder


def write_study(folder: Path, **changes: Any) -> Path:
    """Folder of a study of prefix lengths with two seeds; one of its runs failed."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        study_row(f"{mapper}-{length}", {"mapper": mapper, "prefix length": length}, number)
        for number, (mapper, length) in enumerate(
            (mapper, length) for mapper in ("mlp", "transformer") for length in (5, 10, 80)
        )
    ]
    rows[-1] |= {"n": 0, "mean": {}, "std": {}, "train_mean": {}, "minutes": None}
    rows[-1]["runs"] = [{"seed": 0, "status": "failed", "reason": "the loss is nan", "epochs": []}]
    content = {
        "format_version": 1,
        "name": folder.name,
        "title": "Prefix length",
        "axes": [
            {"name": "mapper", "unit": None, "values": ["mlp", "transformer"]},
            {"name": "prefix length", "unit": "vectors", "values": [5, 10, 80]},
        ],
        "figure": {"kind": "lines", "metric": "CIDEr", "x": "prefix length"},
        "split": {"name": "dev", "sources": [], "images": 8, "references": "abc"},
        "tokenizer": "ptb",
        "metrics": METRICS,
        "not_scored": {"METEOR": "no Java"},
        "seeds": [0, 1],
        "rows": rows,
    }
    (folder / "study.json").write_text(json.dumps(content | changes))
    return folder


def study_row(variant: str, settings: dict[str, Any], number: int) -> dict[str, Any]:
    """A row of two finished runs whose scores grow with its number."""
    mean = {"BLEU-4": 0.1, "CIDEr": 0.3 + number / 10}
    epochs = [{"epoch": e, "loss": 4 - e, "dev_loss": 5 - e, "cider": e / 10} for e in (1, 2)]
    run = {"status": "done", "reason": None, "epochs": epochs}
    return {
        "variant": variant,
        "settings": settings,
        "n": 2,
        "mean": mean,
        "std": dict.fromkeys(METRICS, 0.01),
        "train_mean": {"CIDEr": 0.5 + number / 10},
        "train_std": {"CIDEr": 0.02},
        "trained_parameters": 2_000_000,
        "minutes": 1.5,
        "runs": [run | {"seed": 0}, run | {"seed": 1}],
    }
