"""The loop: a killed run ends with the weights of an uninterrupted one, bit for bit."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from prefixcap.checkpoint import checkpoints
from prefixcap.errors import InputError
from prefixcap.recipe import TrainConfig
from prefixcap.train import Interrupted, Progress, Validation, ending, fit, step_seed
from tests.tiny_run import caption_recipe, run_folder, write_photos

COMMAND = [sys.executable, "-m", "prefixcap", "train"]
CHECKPOINT_EVERY_STEP = "checkpoint_minutes = 1e-9\nvalidate_epochs = 1"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """Folder with photos and a recipe."""
    folder = tmp_path_factory.mktemp("tiny")
    data = write_photos(folder / "data")
    (folder / "tiny.toml").write_text(caption_recipe(data, train=CHECKPOINT_EVERY_STEP))
    return folder


@pytest.fixture
def start(tiny) -> Iterator[Callable[[str], subprocess.Popen]]:
    """Function that starts `prefixcap train` in a process of its own; none outlives the test."""
    started: list[subprocess.Popen] = []

    def begin(runs: str) -> subprocess.Popen:
        command = [*COMMAND, str(tiny / "tiny.toml"), "--runs", str(tiny / runs)]
        log = (tiny / f"{runs}-{len(started)}.log").open("w")
        with log:
            started.append(subprocess.Popen(command, stderr=log, stdout=log))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def steps_done(run: Path) -> int:
    """Steps of the last whole checkpoint."""
    found = checkpoints(run)
    return int(found[-1].name.split("-")[1]) if found else 0


def wait_for_step(process: subprocess.Popen, run: Path, step: int) -> None:
    """Return as soon as the run has saved `step` steps."""
    deadline = time.monotonic() + 600
    while steps_done(run) < step:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_and_terminated_runs_end_with_the_same_bits(tiny, start):
    whole, killed = start("whole"), start("killed")
    wait_for_step(killed, tiny / "killed/tiny", 3)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    again = start("killed")
    wait_for_step(again, tiny / "killed/tiny", 8)
    again.send_signal(signal.SIGTERM)
    assert again.wait() == 0
    assert start("killed").wait() == 0
    assert whole.wait() == 0
    assert steps_done(tiny / "whole/tiny") == 16
    for file in ("model/model.safetensors", "best/model.safetensors"):
        ours = load_file(tiny / "killed/tiny" / file)
        theirs = load_file(tiny / "whole/tiny" / file)
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert torch.equal(ours[name], tensor), name
    captions = [
        {path.name: path.read_bytes() for path in (tiny / runs / "tiny/dev_captions").iterdir()}
        for runs in ("killed", "whole")
    ]
    assert captions[0] == captions[1]
    assert len(captions[0]) == 4


class Line(nn.Module):
    """A line fitted to points."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))

    def loss(self, batch):
        """Summed squared distance, number of points, and nothing more to log."""
        x, y = batch
        return ((self.slope * x - y) ** 2).sum(), len(x), {}


class Points:
    """Points of the line y = 3 x; the one at step `bad` is not a number."""

    steps_per_epoch = 40

    def __init__(self, bad: int | None = None) -> None:
        self.bad = bad

    def batch(self, step):
        """Eight points."""
        x = torch.linspace(-1, 1, 8) + 0.01 * step
        return x, x * (float("nan") if step == self.bad else 3.0)


def test_fit_finds_the_line(tmp_path):
    config = TrainConfig(epochs=5, lr=0.1, warmup_steps=5, precision="fp32")
    task = Line()
    state = fit(task, Points(), config, run_folder(tmp_path, tmp_path))
    assert state.step == 200
    assert ending(state, Points(), config) == "done"
    assert task.slope.item() == pytest.approx(3.0, abs=0.02)


class Parts:
    """The points of `whole` batches, each cut into `parts` of unequal size."""

    def __init__(self, whole: Points, cuts: tuple[int, ...]) -> None:
        self.whole, self.cuts = whole, (0, *cuts, 8)
        self.steps_per_epoch = whole.steps_per_epoch * (len(cuts) + 1)

    def batch(self, step):
        """One part of one whole batch."""
        number, part = divmod(step, len(self.cuts) - 1)
        x, y = self.whole.batch(number)
        inside = slice(self.cuts[part], self.cuts[part + 1])
        return x[inside], y[inside]


@pytest.mark.parametrize("cuts", [(2,), (1, 6)])
def test_accumulated_batches_train_as_one_large_batch(tmp_path, cuts):
    settings = {"epochs": 1, "lr": 0.1, "warmup_steps": 5, "precision": "fp32", "log_steps": 1}
    whole, parts = Line(), Line()
    one, several = run_folder(tmp_path, tmp_path), run_folder(tmp_path, tmp_path, "parts")
    fit(whole, Points(), TrainConfig(**settings), one)
    config = TrainConfig(**settings, accumulate=len(cuts) + 1)
    assert fit(parts, Parts(Points(), cuts), config, several).step == 40
    assert parts.slope.item() == pytest.approx(whole.slope.item(), rel=1e-5)
    losses = [
        [json.loads(line)["loss"] for line in (run.path / "log.jsonl").read_text().splitlines()]
        for run in (one, several)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 1e-3}, {"accumulate": 2}])
def test_steps_in_the_backward_pass_change_nothing(tmp_path, monkeypatch, settings):
    """Not even where they are not to be taken: a clipped norm and a sum need all gradients."""
    config = TrainConfig(epochs=1, lr=0.1, warmup_steps=5, precision="fp32", **settings)
    slopes = []
    for pending in (1, 1 << 30):
        monkeypatch.setattr("prefixcap.optim.PENDING", pending)
        task = Line()
        fit(task, Points(), config, run_folder(tmp_path, tmp_path, f"run-{pending}"))
        slopes.append(task.slope.item())
    assert slopes[0] == slopes[1] != 0


class Scores:
    """Judges a run by the scores that it is given, one after another, and counts what it keeps."""

    def __init__(self, scores: dict[int, float], *, trained_before: bool = False) -> None:
        self.of_step, self.kept = scores, 0
        self.validation = Validation(
            lambda step: {"score": scores[step]}, self._keep, trained_before
        )

    def _keep(self) -> None:
        self.kept += 1


RISING_ONCE = {10: 1.0, 20: 3.0, 30: 2.0, 40: 3.0, 50: 9.0, 60: 9.0}


def early(patience: int) -> TrainConfig:
    """Settings of six validations."""
    return TrainConfig(epochs=1.5, validate_epochs=0.25, warmup_steps=0, patience=patience)


def test_training_ends_after_validations_without_a_gain(tmp_path):
    scores, run = Scores(RISING_ONCE), run_folder(tmp_path, tmp_path)
    state = fit(Line(), Points(), early(2), run, scores.validation)
    assert (state.step, state.best, scores.kept) == (40, 3.0, 2)
    again = fit(Line(), Points(), early(2), run, scores.validation)
    assert (again.step, scores.kept) == (40, 2)
    said = "stopped early at step 40 of 60: no gain in 2 validations; best/ holds step 20"
    assert ending(state, Points(), early(2)) == ending(again, Points(), early(2)) == said
    other = run_folder(tmp_path, tmp_path, "patient")
    patient = fit(Line(), Points(), early(3), other, scores.validation)
    assert patient.step == 60
    assert ending(patient, Points(), early(3)) == "done; best/ holds step 50"


def test_a_third_of_an_epoch_is_validated_three_times_in_one_of_40_steps(tmp_path):
    run, scores = run_folder(tmp_path, tmp_path), Scores({13: 1.0, 26: 2.0, 40: 3.0})
    config = TrainConfig(epochs=1, validate_epochs=0.33, warmup_steps=0)
    fit(Line(), Points(), config, run, scores.validation)  # a KeyError at any other step
    assert scores.kept == 3


def test_what_a_run_starts_from_is_judged_too(tmp_path):
    begun, config = run_folder(tmp_path, tmp_path), early(2)
    scores = Scores(RISING_ONCE | {0: 2.5}, trained_before=True)
    assert fit(Line(), Points(), config, begun, scores.validation).step == 40
    assert scores.kept == 2  # the first weights, and those of step 20; not those of step 10
    lines = [json.loads(line) for line in (begun.path / "log.jsonl").read_text().splitlines()]
    judged = [(line["step"], line["best"]) for line in lines if "score" in line]
    assert judged == [(0, True), (10, False), (20, True), (30, False), (40, False)]
    hopeless = Scores(RISING_ONCE | {0: 10.0}, trained_before=True)
    other = run_folder(tmp_path, tmp_path, "hopeless")
    assert fit(Line(), Points(), config, other, hopeless.validation).step == 20
    assert hopeless.kept == 1


def test_a_stopped_run_remembers_how_long_nothing_was_gained(tmp_path):
    run, scores = run_folder(tmp_path, tmp_path), Scores(RISING_ONCE)

    def stop(progress: Progress) -> None:
        if progress.step == 34:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        fit(Line(), Points(), early(2), run, scores.validation, stop)
    assert checkpoints(run.path)[-1].name == "step-00000035"
    assert fit(Line(), Points(), early(2), run, scores.validation).step == 40


class Filters(nn.Module):
    """Weights that are kept channels last and drawn to zero."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.linspace(-1, 1, 36).view(2, 3, 2, 3)
        self.weight = nn.Parameter(weight.to(memory_format=torch.channels_last))

    def loss(self, batch):
        """Sum of squares, one, and nothing more to log."""
        return (self.weight**2).sum(), 1, {}


def test_a_stopped_run_goes_on_exactly_with_weights_kept_channels_last(tmp_path):
    config = TrainConfig(epochs=0.5, lr=0.1, warmup_steps=2, precision="fp32")
    whole, again = Filters(), Filters()
    fit(whole, Points(), config, run_folder(tmp_path, tmp_path))

    def stop(progress: Progress) -> None:
        if progress.step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    run = run_folder(tmp_path, tmp_path, "stopped")
    with pytest.raises(Interrupted):
        fit(Filters(), Points(), config, run, None, stop)
    assert fit(again, Points(), config, run).step == 20
    assert torch.equal(again.weight, whole.weight)


def test_nan_stops_with_step_and_rate(tmp_path):
    config = TrainConfig(epochs=1, lr=0.1, warmup_steps=0, precision="fp32")
    with pytest.raises(InputError, match=r"loss is nan at step 7 \(batch 7, rate 0\.0825\)"):
        fit(Line(), Points(bad=7), config, run_folder(tmp_path, tmp_path))


def test_full_disk_leaves_the_previous_checkpoint_whole(tmp_path, monkeypatch):
    from prefixcap import checkpoint

    config = TrainConfig(epochs=0.1, lr=0.1, warmup_steps=0, checkpoint_minutes=1e-9)
    run = run_folder(tmp_path, tmp_path)
    real, calls = checkpoint.save_tensors, []

    def fills_up(tensors, path):
        calls.append(path)
        if len(calls) == 4:  # in the middle of the second checkpoint
            raise OSError(28, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_tensors", fills_up)
    with pytest.raises(OSError, match="No space left"):
        fit(Line(), Points(), config, run)
    assert [folder.name for folder in checkpoints(run.path)] == ["step-00000001"]
    assert not list((run.path / "checkpoints").glob(".*"))
    monkeypatch.setattr(checkpoint, "save_tensors", real)
    assert fit(Line(), Points(), config, run).step == 4


@pytest.mark.parametrize("saved", [False, True])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, saved):
    """The loss of the last step is of the weights before it."""
    run = run_folder(tmp_path, tmp_path)
    if saved:
        fit(Line(), Points(), TrainConfig(epochs=1 / 40, lr=0.1, warmup_steps=0), run)
    config = TrainConfig(epochs=2 / 40, lr=1e39, warmup_steps=0, precision="fp32")
    kept = f"; {run.path}/checkpoints/step-00000001 is whole" if saved else "$"
    config = config.model_copy(update={"epochs": (1 + saved) / 40})
    with pytest.raises(InputError, match=f"not finite, and were not saved.* name=NEW{kept}"):
        fit(Line(), Points(), config, run)
    assert len(checkpoints(run.path)) == saved


@pytest.mark.parametrize("text", ["{}", "[]", '{"step": "1", "best": null}', '{"step'])
def test_a_damaged_state_is_one_line(tmp_path, text):
    config = TrainConfig(epochs=2 / 40, lr=0.1, warmup_steps=0, checkpoint_minutes=1e-9)
    run = run_folder(tmp_path, tmp_path)
    fit(Line(), Points(), config, run)
    first, second = checkpoints(run.path)
    (second / "state.json").write_text(text)
    with pytest.raises(InputError, match=f"{second}: is damaged .* Remove this folder"):
        fit(Line(), Points(), config, run)
    shutil.rmtree(first)
    with pytest.raises(InputError, match="none before it: train again under another name"):
        fit(Line(), Points(), config, run)


def test_log_has_a_line_for_each_logged_step(tmp_path):
    config = TrainConfig(epochs=0.25, lr=0.1, log_steps=5)
    run = run_folder(tmp_path, tmp_path)
    fit(Line(), Points(), config, run)
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10]


def test_random_numbers_differ_by_seed_step_and_process():
    seeds = {step_seed(*place) for place in itertools.product(range(3), repeat=3)}
    assert len(seeds) == 27
    assert step_seed(1, 2, 0) == step_seed(1, 2, 0)
