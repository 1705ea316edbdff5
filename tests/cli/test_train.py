"""`embed` and `train` on a tiny world: exit codes, files, continuing, Ctrl-C."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefixcap import caption_stage, precision
from prefixcap.cli import main as cli
from tests.source_tree import REPOSITORY
from tests.tiny_run import caption_recipe, distill_recipe, save_tiny_teacher, write_photos

PATIENCE_S = 120


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Folder with photos, a teacher and two recipes."""
    folder = tmp_path_factory.mktemp("world")
    data = write_photos(folder / "data")
    teacher = save_tiny_teacher(folder / "teacher")
    (folder / "d.toml").write_text(distill_recipe(data, teacher, folder / "store"))
    (folder / "c.toml").write_text(caption_recipe(data))
    return folder


@pytest.fixture(scope="module")
def model(world: Path) -> Path:
    """Model folder that `prefixcap train` has written."""
    words = ["train", str(world / "c.toml"), "--runs", str(world / "runs"), "--set", "name=done"]
    assert cli.main([*words, "--set", "train.epochs=2"]) == 0
    return world / "runs" / "done" / "best"


def lines(path: Path) -> list[dict]:
    """Lines of a JSON lines file; none where it is not there yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_embed_builds_the_store_that_train_then_distils_from(world, capsys):
    assert cli.main(["embed", str(world / "d.toml")]) == 0
    assert capsys.readouterr().out == f"{world}/store: whole, 0 photos skipped\n"
    words = ["train", str(world / "d.toml"), "--runs", str(world / "runs")]
    assert cli.main([*words, "--set", "train.epochs=1"]) == 0
    assert (world / "runs" / "tiny-distill" / "encoder.safetensors").stat().st_size > 0


def test_settings_of_the_command_line_are_those_of_the_run(world, model):
    assert json.loads((model.parent / "recipe.json").read_text())["train"]["epochs"] == 2


def test_lines_and_log_say_how_it_goes_and_a_missing_board_is_one_line(world, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    words = ["train", str(world / "c.toml"), "--runs", str(world / "runs"), "--device", "cpu"]
    settings = ["name=seen", "train.epochs=1", "train.tensorboard=true", "train.best_by=loss"]
    assert cli.main([*words, *(word for each in settings for word in ("--set", each))]) == 0
    out, err = capsys.readouterr()
    shown = err.splitlines()
    assert out == f"{world}/runs/seen: done; best/ holds step 4\n"
    assert shown[0].startswith("train.tensorboard: TensorBoard is not installed")
    speeds = r"loss [\d.]+, [\d.]+ s/step, [\d,]+ tokens/s, [\d,]+ captions/s, [\d,]+ MiB"
    assert re.fullmatch(rf"steps: 4 of 4  {speeds}", shown[-1]), shown
    log = lines(world / "runs" / "seen" / "log.jsonl")
    *_, step = (line for line in log if "loss" in line)
    assert {"tokens_per_s", "captions_per_s", "memory_mib", "left_s", "rate"} <= step.keys()
    [judged] = (line for line in log if "best" in line)
    assert judged["score"] == -judged["dev_loss"]


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_where_it_is_not_fast_is_said(world, capsys, monkeypatch, fast):
    monkeypatch.setattr(precision, "bf16_is_fast", lambda device: fast)
    words = ["train", str(world / "c.toml"), "--runs", str(world / f"fast-{fast}")]
    assert cli.main([*words, "--set", "train.epochs=0.25", "--set", "train.precision=bf16"]) == 0
    err = capsys.readouterr().err
    assert ("trains in bf16 because its recipe says so, though that is not faster" in err) != fast
    assert re.search(r"trainable parameters, one process on cpu in bf16", err)


def test_a_finished_run_is_not_trained_again(world, model, capsys):
    before = (model.parent / "model" / "model.safetensors").read_bytes()
    steps = len(lines(model.parent / "log.jsonl"))
    words = ["train", str(world / "c.toml"), "--runs", str(world / "runs"), "--set", "name=done"]
    assert cli.main([*words, "--set", "train.epochs=2"]) == 0
    assert "trainable parameters, one process on cpu in fp32\n" in capsys.readouterr().err
    assert (model.parent / "model" / "model.safetensors").read_bytes() == before
    trained = [line for line in lines(model.parent / "log.jsonl")[steps:] if "loss" in line]
    assert trained == []


def test_photos_left_out_make_the_exit_code_1_at_every_call(tmp_path, capsys):
    data = write_photos(tmp_path / "data")
    photos = sorted((data / "images").iterdir())
    for broken in (photos[0], photos[-1]):  # of the train list, of the dev list
        broken.write_bytes(b"no photo")
    (tmp_path / "c.toml").write_text(caption_recipe(data))
    words = ["train", str(tmp_path / "c.toml"), "--runs", str(tmp_path), "--set", "train.epochs=1"]
    for _ in ("trained", "finished already"):
        assert cli.main(words) == 1
        run = tmp_path / "tiny"
        said = f"{run}: done; best/ holds step 3; 2 photos left out (see {run / 'log.jsonl'})\n"
        assert capsys.readouterr().out == said
    assert (tmp_path / "tiny" / "model" / "model.safetensors").is_file()


def test_photos_that_are_not_stored_make_the_exit_code_1(world, tmp_path, capsys):
    """A distillation goes without them too; this one reads the photo in two sources."""
    data = write_photos(tmp_path / "data")
    text = distill_recipe(data, world / "teacher", tmp_path / "store")
    (tmp_path / "d.toml").write_text(text)
    broken = sorted((data / "images").iterdir())[0]
    whole = broken.read_bytes()
    broken.write_bytes(b"no photo")
    assert cli.main(["embed", str(tmp_path / "d.toml")]) == 1
    broken.write_bytes(whole)
    words = ["train", str(tmp_path / "d.toml"), "--runs", str(tmp_path), "--set", "train.epochs=1"]
    assert cli.main(words) == 1
    assert "; 2 photos left out" in capsys.readouterr().out


def test_a_finished_run_without_checkpoints_stays_as_it_is(world, model, tmp_path, capsys):
    shutil.copytree(model.parent, tmp_path / "done")
    shutil.rmtree(tmp_path / "done/checkpoints")
    files = [path for path in (tmp_path / "done").rglob("*") if path.is_file()]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    words = ["train", str(world / "c.toml"), "--runs", str(tmp_path), "--set", "name=done"]
    assert cli.main([*words, "--set", "train.epochs=2"]) == 0
    assert "done: already finished" in capsys.readouterr().out
    after = [path for path in (tmp_path / "done").rglob("*") if path.is_file()]
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in after} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "{}/none.toml"], "none.toml"),
        (["train", "{}/c.toml", "--set", "train.lrr=1"], "lrr"),
        (["train", "{}/c.toml", "--device", "abacus"], "device abacus: cannot be used here"),
        (["embed", "{}/c.toml"], "store"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(world, capsys, words, said):
    assert cli.main([word.format(world) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("read_sources", "before the first step; the same command begins"),
        ("fit", "between its steps; the same command continues"),  # of the finished run
    ],
)
def test_termination_outside_of_the_loop_is_no_failure(
    world, model, tmp_path, capsys, monkeypatch, place, said
):
    def terminated(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(caption_stage, place, terminated)
    runs = world / "runs" if place == "fit" else tmp_path
    words = ["train", str(world / "c.toml"), "--runs", str(runs), "--set", "name=done"]
    assert cli.main([*words, "--set", "train.epochs=2"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"{runs}/done: stopped {said}"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_saves_and_says_that_the_same_command_continues(world, tmp_path, number, code):
    words = ["train", str(world / "c.toml"), "--runs", str(tmp_path), "--set", "name=stopped"]
    settings = ["--set", "train.epochs=100000", "--set", "train.validate_epochs=100000"]
    log = tmp_path / "stopped" / "log.jsonl"
    running = subprocess.Popen(
        [sys.executable, "-m", "prefixcap", *words, *settings],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + PATIENCE_S
    while len(lines(log)) < 3 and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.1)
    running.send_signal(number)
    _, error = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == code, error
    assert error.splitlines()[-1].endswith(
        f"stopped: saved after {number.name}; the same command continues"
    )
    assert "Traceback" not in error
    assert list((tmp_path / "stopped" / "checkpoints").iterdir())
