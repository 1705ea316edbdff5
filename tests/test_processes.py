"""Several processes train as one; what a process is without others."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from prefixcap.checkpoint import checkpoints
from prefixcap.cli import main as cli
from prefixcap.errors import InputError
from prefixcap.processes import ALONE, Processes, joined
from prefixcap.recipe import TrainConfig
from prefixcap.train import fit
from tests.source_tree import REPOSITORY
from tests.tiny_run import caption_recipe, write_photos
from tests.two_processes import ACCUMULATED, DEADLY_STEP, SHARDED, words

LAUNCH = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
LAUNCH += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
LAUNCH += ["--main_process_port", "0", "-m", "tests.two_processes"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """Recipe of 8 steps without dropout, whose random numbers a process draws for itself."""
    folder = tmp_path_factory.mktemp("tiny")
    text = caption_recipe(write_photos(folder / "data"), train="validate_epochs = 1")
    text = text.replace("dropout = 0.1", "dropout = 0.0").replace("epochs = 4", "epochs = 2")
    (folder / "tiny.toml").write_text(text)
    return folder / "tiny.toml"


@pytest.fixture(scope="module")
def launched(recipe) -> Path:
    """Folder of the runs of two processes."""
    pytest.importorskip("accelerate", reason="needs the extra train")
    runs = recipe.parent / "two"
    runs.mkdir()
    command = [sys.executable, "-m", *LAUNCH, str(recipe), str(runs)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return runs


@pytest.fixture(scope="module")
def alone(recipe) -> Path:
    """Folder of the same runs of one process."""
    runs = recipe.parent / "one"
    assert cli.main(words(recipe, runs, "plain")) == 0
    assert cli.main(words(recipe, runs, "accumulated") + ACCUMULATED) == 0
    assert cli.main(words(recipe, runs, "sharded") + SHARDED) == 0
    return runs


def values_of(run: Path, name: str) -> dict[int, list[float]]:
    """Values of this name by step, all that were logged."""
    found: dict[int, list[float]] = {}
    for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()):
        if name in line:
            found.setdefault(line["step"], []).append(line[name])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "accumulated", "sharded"])
def test_two_processes_have_the_losses_of_one(launched, alone, name):
    for value in ("loss", "dev_loss", "score", "tokens", "captions"):
        theirs, ours = (values_of(runs / name, value) for runs in (alone, launched))
        assert ours.keys() == theirs.keys()
        assert len(theirs) == (2 if value in ("dev_loss", "score") else 8)
        for step, expected in theirs.items():
            assert ours[step] == pytest.approx(expected, rel=1e-5), (value, step)


@pytest.mark.slow
def test_the_main_process_alone_writes(launched):
    assert not (launched / "of-process-1").exists()
    assert (launched / "plain/best/model.safetensors").is_file()


@pytest.mark.slow
def test_processes_that_do_not_see_the_same_checkpoints_say_so(launched):
    codes = [json.loads((launched / f"exit-codes-{i}.json").read_text()) for i in (0, 1)]
    assert codes == [[0, 0, 2, 0, 0, 0, 0]] * 2


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_one_process_goes_on(launched, alone, recipe):
    run = launched / "stopped"
    assert [folder.name for folder in checkpoints(run)] == [f"step-{DEADLY_STEP + 1:08d}"]
    assert cli.main(words(recipe, launched, "stopped")) == 0
    ours, theirs = values_of(run, "loss"), values_of(alone / "plain", "loss")
    assert ours.keys() == theirs.keys()
    for step, expected in theirs.items():
        assert ours[step] == pytest.approx(expected, rel=1e-5), step


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sharded", "sharded-stopped"])
def test_shards_end_with_the_weights_of_one_process(launched, alone, recipe, name):
    if name == "sharded-stopped":  # the other was gone on with by two
        assert checkpoints(launched / name)[-1].name == f"step-{DEADLY_STEP + 1:08d}"
        assert cli.main(words(recipe, launched, name) + SHARDED) == 0
    for file in ("model/model.safetensors", "checkpoints/step-00000008/optimizer.safetensors"):
        ours, theirs = load_file(launched / name / file), load_file(alone / "sharded" / file)
        assert ours.keys() == theirs.keys()
        for key, expected in theirs.items():
            torch.testing.assert_close(ours[key], expected, rtol=1e-4, atol=1e-5)


def test_shares_are_all_things_once_and_in_order():
    for count in (1, 2, 3, 7):
        shares = [range(10)[Processes(index, count).share(10)] for index in range(count)]
        assert [thing for share in shares for thing in share] == list(range(10))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_alone_needs_no_accelerate(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert joined(torch.device("cpu")) == ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"2 processes were launched.*prefixcap\[train\]"):
        joined(torch.device("cpu"))


def test_a_step_with_fewer_images_than_processes_is_refused(tmp_path):
    from tests.test_train import Line, Points, run_folder

    run = run_folder(tmp_path, tmp_path)
    run.processes = Processes(0, 9)
    config = TrainConfig(images_per_step=8)
    with pytest.raises(InputError, match=r"images_per_step is 8, less than the 9 processes"):
        fit(Line(), Points(), config, run)


@dataclass(frozen=True)
class Batch:
    """Tensors at two depths, one of them absent."""

    pixels: Tensor
    inner: tuple[Tensor, Tensor | None]
    rows: range


def test_a_process_that_has_lost_the_others_says_so_in_one_line(monkeypatch):
    def broken(*_):
        raise RuntimeError("[pair.cc:537] Read error: Connection reset by peer. GLHF!")

    monkeypatch.setattr(torch.distributed, "all_reduce", broken)
    layer = nn.Linear(2, 2)
    layer(torch.ones(2)).sum().backward()
    with pytest.raises(InputError, match=r"process 1 of 2 has lost .*same command") as e:
        Processes(1, 2).add_gradients(layer)
    assert "\n" not in str(e.value)
    assert "GLHF" not in str(e.value)


def test_taking_a_batch_moves_every_tensor_and_leaves_the_rest():
    batch = Batch(torch.ones(2), (torch.zeros(3), None), range(4))
    taken = Processes(device=torch.device("meta")).take(batch)
    assert taken.pixels.is_meta and taken.inner[0].is_meta
    assert taken.inner[1] is None and taken.rows == range(4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu_follows_the_cpu(recipe):
    losses = {}
    for device in ("cpu", "cuda"):
        runs = recipe.parent / device
        assert cli.main([*words(recipe, runs, "plain")[:-1], device]) == 0
        losses[device] = values_of(runs / "plain", "loss")
    for step, expected in losses["cpu"].items():
        assert losses["cuda"][step] == pytest.approx(expected, rel=1e-3), step
    weights = nn.Linear(1, 1).to("cuda")
    assert Processes(device=torch.device("cuda")).take(weights.weight.detach().cpu()).is_cuda
