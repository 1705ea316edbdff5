"""`prefixcap study` on a tiny world: all of it run, continued, failed, stopped; its files."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefixcap.cli import main as cli
from tests.source_tree import REPOSITORY
from tests.tiny_run import caption_recipe, write_photos

PATIENCE_S = 120
STUDY = """
name = "widths"
title = "Prefix lengths of a tiny captioner"
recipe = "c.toml"
seeds = [0, 1]
set = ["train.epochs=2"]
metrics = ["bleu", "cider"]

[[axes]]
name = "prefix length"
unit = "vectors"
set = ["mapper.prefix_length={}"]
numbers = [1, 2]

[figure]
kind = "lines"
x = "prefix length"
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Folder with photos, a recipe and a study."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "c.toml").write_text(caption_recipe(write_photos(folder / "data")))
    (folder / "study.toml").write_text(STUDY)
    return folder


@pytest.fixture(scope="module")
def finished(world: Path) -> Path:
    """Folder of the study, all of it run."""
    assert run(world, "study.toml") == 0
    return world / "studies" / "widths"


def run(world: Path, file: str, *words: str) -> int:
    """Exit code of `prefixcap study`."""
    return cli.main(["study", str(world / file), "--runs", str(world / "studies"), *words])


def results(folder: Path) -> dict:
    return json.loads((folder / "study.json").read_text())


def test_every_variant_and_seed_is_a_scored_run(finished):
    found = results(finished)
    assert [row["settings"] for row in found["rows"]] == [
        {"prefix length": 1},
        {"prefix length": 2},
    ]
    for row in found["rows"]:
        assert [run["seed"] for run in row["runs"]] == [0, 1]
        assert row["n"] == 2
        values = [run["scores"]["CIDEr"] for run in row["runs"]]
        assert row["mean"]["CIDEr"] == pytest.approx(sum(values) / 2)
        assert row["std"]["CIDEr"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        assert [point["epoch"] for point in row["runs"][0]["epochs"]] == [1, 2]
        assert row["runs"][0]["epochs"][0]["loss"] > row["runs"][0]["epochs"][1]["loss"]
        assert row["minutes"] > 0
    small, large = (row["trained_parameters"] for row in found["rows"])
    assert small < large
    assert found["split"]["images"] == 8
    written = json.loads(
        (finished / found["rows"][0]["runs"][0]["folder"] / "recipe.json").read_text()
    )
    assert (written["mapper"]["prefix_length"], written["train"]["seed"]) == (1, 0)


def test_table_and_figure_hold_the_rows(finished):
    lines = list(csv.reader((finished / "table.csv").read_text().splitlines()))
    assert [line[0] for line in lines[1:]] == ["prefix length 1", "prefix length 2"]
    assert "prefix length 2" in (finished / "table.md").read_text()
    assert (finished / "figure.png").stat().st_size > 5000
    assert "<svg" in (finished / "figure.svg").read_text()


def test_finished_runs_are_not_run_again(world, finished, capsys):
    logs = sorted(finished.glob("*/log.jsonl"))
    before = [log.read_bytes() for log in logs]
    assert run(world, "study.toml") == 0
    assert "4 of 4 runs were done before" in capsys.readouterr().err
    assert [log.read_bytes() for log in logs] == before


def test_a_failed_run_is_a_row_with_its_reason(world, capsys):
    (world / "fails.toml").write_text(
        STUDY.replace('"widths"', '"fails"')
        .replace("seeds = [0, 1]", "seeds = [0]")
        .replace("numbers = [1, 2]", "numbers = [2, 40]")  # 40 and a caption are too long
    )
    assert run(world, "fails.toml", "--set", "train.epochs=1") == 1
    good, bad = results(world / "studies" / "fails")["rows"]
    assert (good["n"], bad["n"], bad["mean"]) == (1, 0, {})
    assert bad["runs"][0]["status"] == "failed"
    assert "40" in bad["runs"][0]["reason"]
    assert "prefix-length-40-seed0: failed" in capsys.readouterr().err


def test_a_changed_recipe_is_refused_run_by_run(world, finished):
    before = results(finished)
    assert run(world, "study.toml", "--set", "train.lr=0.5") == 1
    assert all("train.lr" in r["runs"][0]["reason"] for r in results(finished)["rows"])
    assert run(world, "study.toml") == 0
    assert results(finished) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_study_goes_on_where_it_was(world, number, tmp_path):
    (world / "long.toml").write_text(STUDY.replace("seeds = [0, 1]", "seeds = [3]"))
    words = ["study", str(world / "long.toml"), "--runs", str(tmp_path), "--jobs", "1"]
    settings = ["--set", "train.epochs=40", "--set", "train.validate_epochs=40"]
    log = tmp_path / "widths" / "prefix-length-1-seed3" / "log.jsonl"
    running = subprocess.Popen(
        [sys.executable, "-m", "prefixcap", *words, *settings],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and running.poll() is None and not _trains(log):
        time.sleep(0.05)
    running.send_signal(number)
    _, error = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == (0 if number == signal.SIGTERM else -number), error.decode()
    assert cli.main([*words, *settings]) == 0
    found = results(tmp_path / "widths")
    assert [row["n"] for row in found["rows"]] == [1, 1]


def _trains(log: Path) -> bool:
    return log.exists() and log.read_text().count('"loss"') > 2


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("numbers = [1, 2]", "numbers = [1, 1]", "one folder"),
        ('recipe = "c.toml"', 'recipe = "none.toml"', "none.toml"),
        ('x = "prefix length"', 'x = "width"', "axis of numbers"),
        ('"cider"]', '"ciderr"]', "ciderr"),
        ("mapper.prefix_length", "mapper.prefix_lenght", "prefix_lenght"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(world, capsys, before, after, said):
    (world / "wrong.toml").write_text(STUDY.replace(before, after))
    assert run(world, "wrong.toml") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
