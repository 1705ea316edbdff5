"""What a run holds on to: photos that it went without as it began, and those that it had."""

import json
import shutil
from pathlib import Path

import pytest

from prefixcap.caption_stage import caption_recipe as train
from prefixcap.errors import InputError
from prefixcap.processes import Processes
from prefixcap.recipe import Recipe, load_recipe
from prefixcap.report.log import read_log
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch
from tests.tiny_run import caption_recipe, write_photos

EVERY_STEP = ["train.epochs=2", "train.checkpoint_minutes=1e-9", "train.keep_checkpoints=99"]
BROKEN, OTHER = "0004_red.jpg", "0008_red.jpg"  # of the train list


@pytest.fixture
def photos(tmp_path) -> Path:
    """Photos in Flickr8k's format, one of which cannot be read."""
    folder = write_photos(tmp_path / "data")
    (folder / "images" / BROKEN).rename(tmp_path / BROKEN)
    return folder


@pytest.fixture
def recipe(photos, tmp_path) -> Recipe:
    """A captioner of these photos that keeps a checkpoint of every step."""
    path = tmp_path / "c.toml"
    path.write_text(caption_recipe(photos))
    return load_recipe(path, EVERY_STEP)


def run_again(folder: Path, recipe: Recipe) -> list[str]:
    """Train the recipe in `folder`, and give what is said of it."""
    said: list[str] = []
    train(recipe, RunFolder(folder, recipe), Watch(note=said.append))
    return said


def weights(folder: Path) -> bytes:
    """Those of the run's last step."""
    return (folder / "model" / "model.safetensors").read_bytes()


def test_a_stopped_run_ends_with_the_same_bits_though_a_photo_is_back(photos, recipe, tmp_path):
    run_again(tmp_path / "whole", recipe)
    stopped = shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    shutil.rmtree(stopped / "model")
    for later in sorted((stopped / "checkpoints").iterdir())[2:]:
        shutil.rmtree(later)
    shutil.copyfile(tmp_path / BROKEN, photos / "images" / BROKEN)
    assert run_again(stopped, recipe)[0] == (
        f"1 photos, such as 0-flickr8k/{BROKEN}, were unreadable when this run began and stay left "
        "out of it; a new run has them"
    )
    assert weights(stopped) == weights(tmp_path / "whole")
    run_again(tmp_path / "new", recipe)
    assert weights(tmp_path / "new") != weights(tmp_path / "whole")


def test_a_photo_that_a_run_was_begun_with_must_not_get_lost(photos, recipe, tmp_path):
    run_again(tmp_path / "run", recipe)
    other = photos / "images" / OTHER
    whole = other.read_bytes()
    other.write_bytes(b"no photo")
    with pytest.raises(InputError, match=r"data: was 15 photos .*, is 14 "):
        run_again(tmp_path / "run", recipe)
    other.write_bytes(whole)
    run_again(tmp_path / "run", recipe)
    assert read_log(tmp_path / "run/log.jsonl").left_out == 1  # the other is not counted


def test_a_photo_that_never_was_there_may_be_named_by_new_data(photos, recipe, tmp_path):
    run_again(tmp_path / "run", recipe)
    names = photos / "Flickr_8k.trainImages.txt"
    names.write_text(names.read_text() + "0099_red.jpg\n")
    tokens = photos / "Flickr8k.token.txt"
    tokens.write_text(tokens.read_text() + "0099_red.jpg#0\tA red photo .\n")
    run_again(tmp_path / "run", recipe)


def test_what_was_left_out_is_forgotten_with_a_run_that_took_no_step(photos, recipe, tmp_path):
    run = RunFolder(tmp_path / "run", recipe)
    assert run.left_out("unreadable", ["a"]) == {"a"}
    assert run.left_out("not stored", ["b"]) == {"b"}
    assert json.loads((run.path / "left_out.json").read_text()) == {
        "unreadable": ["a"],
        "not stored": ["b"],
    }
    again = RunFolder(run.path, recipe)
    assert again.left_out("unreadable", []) == set()
    again.log(step=1)
    assert RunFolder(run.path, recipe).left_out("unreadable", []) == set()


def test_runs_of_releases_that_did_not_note_it_go_on_as_they_are(photos, recipe, tmp_path):
    run_again(tmp_path / "run", recipe)
    noted = tmp_path / "run/left_out.json"
    noted.write_text('{"unreadable": [1]}')
    with pytest.raises(InputError, match=r"left_out\.json: is damaged"):
        run_again(tmp_path / "run", recipe)
    noted.unlink()
    run_again(tmp_path / "run", recipe)
    assert not noted.exists()
    shutil.copyfile(tmp_path / BROKEN, photos / "images" / BROKEN)
    with pytest.raises(InputError, match=r"data: was 15 photos .*, is 16 "):
        run_again(tmp_path / "run", recipe)


def test_what_one_process_cannot_read_all_go_without(recipe, tmp_path):
    class Main(Processes):
        def gathered(self, value):
            return [value, ({"b"}, ())]

    run = RunFolder(tmp_path / "run", recipe, Main(count=2))
    assert run.left_out("unreadable", ["a"]) == {"a", "b"}
    assert json.loads((run.path / "left_out.json").read_text()) == {"unreadable": ["a", "b"]}
