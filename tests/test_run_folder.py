"""A run's folder: the same recipe and data go on, others are refused, one process at a time."""

import json
import os

import pytest
import torch
from torch import nn

from prefixcap import precision
from prefixcap.errors import InputError
from prefixcap.processes import Processes
from prefixcap.recipe import load_recipe
from prefixcap.run_data import files_digest, frozen_digest
from prefixcap.run_folder import RunFolder
from tests.tiny_run import caption_recipe, run_folder


def test_a_line_of_the_log_that_a_full_disk_cut_off_stands_alone(tmp_path):
    run = run_folder(tmp_path, tmp_path)
    run.log(step=1)
    with (run.path / "log.jsonl").open("a") as file:
        file.write('{"seconds": 0.')
    run.log(step=2)
    run.log(step=3)
    lines = (run.path / "log.jsonl").read_text().splitlines()
    assert [json.loads(lines[number])["step"] for number in (0, 2, 3)] == [1, 2, 3]
    assert len(lines) == 4


def test_a_changed_recipe_is_refused_and_harmless_changes_are_not(tmp_path):
    run_folder(tmp_path, tmp_path).log(step=1)
    path = tmp_path / "recipe.toml"
    RunFolder(tmp_path / "run", load_recipe(path, ["train.log_steps=7"]))
    with pytest.raises(InputError, match=r"train\.lr: was 0\.003, is 0\.1"):
        RunFolder(tmp_path / "run", load_recipe(path, ["train.lr=0.1"]))


@pytest.fixture
def bf16(monkeypatch):
    """A switch that says whether bf16 is fast here."""
    answer = {"fast": True}
    monkeypatch.setattr(precision, "bf16_is_fast", lambda device: answer["fast"])
    return answer


def test_a_run_keeps_the_precision_that_was_fast_where_it_was_begun(tmp_path, bf16):
    (tmp_path / "recipe.toml").write_text(caption_recipe(tmp_path))
    path, recipe = tmp_path / "run", load_recipe(tmp_path / "recipe.toml", ["train.precision=auto"])
    run = RunFolder(path, recipe)
    bf16["fast"] = False
    assert run.precision == "bf16"
    assert RunFolder(path, recipe).precision == "fp32"  # not begun: nothing was computed yet
    assert json.loads((path / "recipe.json").read_text())["train"]["precision"] == "fp32"
    bf16["fast"] = True
    run.log(step=1)
    assert RunFolder(path, recipe).precision == "fp32"
    asked = load_recipe(tmp_path / "recipe.toml", ["train.precision=bf16"])
    with pytest.raises(InputError, match=r"train\.precision: was 'fp32', is 'bf16'"):
        RunFolder(path, asked)
    assert RunFolder(tmp_path / "other", asked).precision == "bf16"


def test_all_processes_train_in_the_precision_of_the_main_one(tmp_path, bf16):
    (tmp_path / "recipe.toml").write_text(caption_recipe(tmp_path))
    recipe = load_recipe(tmp_path / "recipe.toml", ["train.precision=auto"])

    class Second(Processes):
        def gathered(self, value):
            return [(None, "fp32"), value]

    assert RunFolder(tmp_path / "run", recipe, Second(index=1, count=2)).precision == "fp32"


def test_a_recipe_that_failed_before_the_first_step_can_be_mended(tmp_path):
    run = run_folder(tmp_path, tmp_path)
    run.hold_data(data=RECORDS)
    run.hold_rest(photo_files="a")
    run.log(trained_parameters=3)
    mended = load_recipe(tmp_path / "recipe.toml", ["train.lr=0.1"])
    with run.locked(), pytest.raises(InputError, match="other settings"):
        RunFolder(run.path, mended)  # another process may be about to begin
    again = RunFolder(run.path, mended)
    again.hold_data(data=RECORDS[:5])
    again.hold_rest(photo_files="b")
    assert not (run.path / "log.jsonl").exists()
    assert json.loads((run.path / "recipe.json").read_text())["train"]["lr"] == 0.1


def test_a_run_begun_before_a_setting_existed_continues(tmp_path):
    run = run_folder(tmp_path, tmp_path)
    run.log(step=1)
    written = json.loads((run.path / "recipe.json").read_text())
    del written["train"]["accumulate"], written["data"][0]["first"]
    (run.path / "recipe.json").write_text(json.dumps(written))
    path = tmp_path / "recipe.toml"
    RunFolder(run.path, load_recipe(path))
    with pytest.raises(InputError, match=r"train\.accumulate: was 1, is 2"):
        RunFolder(run.path, load_recipe(path, ["train.accumulate=2"]))
    (run.path / "recipe.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as the recipe of a run"):
        RunFolder(run.path, load_recipe(path))


def test_a_run_that_lost_its_checkpoints_does_not_begin_again(tmp_path):
    run = run_folder(tmp_path, tmp_path)
    recipe = load_recipe(tmp_path / "recipe.toml")
    (run.path / "best").mkdir()
    (run.path / "best/config.json").write_text("{}")
    assert not RunFolder(run.path, recipe).finished  # killed before its first line
    run.log(step=1)
    assert not RunFolder(run.path, recipe).finished  # killed before its first checkpoint
    run.note_saved()
    with pytest.raises(InputError, match=r"its checkpoints are gone.*--set name=NEW, or delete"):
        RunFolder(run.path, recipe)
    (run.path / "model").mkdir()
    (run.path / "model/config.json").write_text("{}")
    assert RunFolder(run.path, recipe).finished
    (run.path / "log.jsonl").unlink()
    assert RunFolder(run.path, recipe).finished
    (run.path / "checkpoints/step-00000001").mkdir(parents=True)
    assert not RunFolder(run.path, recipe).finished


@pytest.mark.parametrize("kept", ["data.json", "log.jsonl", "recipe.json", "model/README.md"])
def test_what_no_run_has_written_is_not_written_over(tmp_path, kept):
    file = tmp_path / "run" / kept
    file.parent.mkdir(parents=True)
    file.write_text('{"flour": 500}')
    with pytest.raises(InputError, match=f"not the folder of a run, and {kept.split('/')[0]} in"):
        run_folder(tmp_path, tmp_path)
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [file]
    assert file.read_text() == '{"flour": 500}'


@pytest.mark.parametrize("damaged", ['{"data": {"pho', "[]", '{"data": {}}', '{"rest": 1}'])
def test_damaged_fingerprints_are_one_line(tmp_path, damaged):
    run = run_folder(tmp_path, tmp_path)
    (run.path / "data.json").write_text(damaged)
    for hold in (lambda: run.hold_data(data=RECORDS), lambda: run.hold_rest(photo_files="a")):
        with pytest.raises(InputError, match=r"data\.json: is damaged.*delete this file"):
            hold()


RECORDS = [(f"{number}.jpg", ["a dog", "a cat"]) for number in range(1200)]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (RECORDS[:-1], "and 2,400 captions, is 1,199 photos and 2,398 captions"),
        ([*RECORDS[:-1], ("a.jpg", RECORDS[-1][1])], "is as many, but other photos"),
        (RECORDS[::-1], "or another order"),
        ([*RECORDS[:-1], (RECORDS[-1][0], ["a dog", "a cow"])], "the same photos with other"),
    ],
)
def test_changed_data_is_refused_with_what_changed(tmp_path, changed, said):
    run = run_folder(tmp_path, tmp_path)
    run.hold_data(data=RECORDS, dev=RECORDS[:2])
    run.hold_data(data=list(RECORDS), dev=RECORDS[:2])
    with pytest.raises(InputError, match=rf"other data \(data: was 1,200 photos.*{said}"):
        run.hold_data(data=changed, dev=RECORDS[:2])
    run.hold_data(data=RECORDS, dev=RECORDS[:2])  # nothing was written over


def test_other_photos_or_frozen_weights_under_the_same_names_are_refused(tmp_path):
    run, photo = run_folder(tmp_path, tmp_path), tmp_path / "a.jpg"
    photo.write_bytes(b"12345")
    layer = nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    run.hold_data(data=RECORDS)

    def hold():
        files = files_digest([photo, tmp_path / "shard.tar/b.jpg"])
        run.hold_rest(frozen_weights=frozen_digest(layer), photo_files=files)

    hold()
    run.hold_data(data=RECORDS)
    with torch.no_grad():
        layer.bias += 1
    hold()
    with torch.no_grad():
        layer.weight += 1
    with pytest.raises(InputError, match="begun with other frozen weights under"):
        hold()
    photo.write_bytes(b"1234567")
    with pytest.raises(InputError, match="other frozen weights and photo files under"):
        hold()


def lock_of_another_process(path, recipe):
    """Exit code of a process that wants the run: 0 where it gets it, 7 where it is refused."""
    other = os.fork()
    if other:
        return os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])
    try:
        with RunFolder(path, recipe).locked():
            os._exit(0)
    except InputError:
        os._exit(7)


def test_a_run_in_use_is_refused(tmp_path):
    run = run_folder(tmp_path, tmp_path)
    recipe = load_recipe(tmp_path / "recipe.toml")
    with run.locked():
        assert lock_of_another_process(run.path, recipe) == 7
    assert lock_of_another_process(run.path, recipe) == 0
