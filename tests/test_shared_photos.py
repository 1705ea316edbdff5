"""A photo that is trained on is never validated on, whatever name or link it goes by."""

import os
import shutil
import tracemalloc
from pathlib import Path

import pytest

from prefixcap import caption_stage, datasets
from prefixcap.batches import read_dev_sources, read_sources
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError
from prefixcap.recipe import load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.shared_photos import shared_photos
from prefixcap.stages import Watch
from tests.datasets.conftest import jpeg, put_tar
from tests.tiny_run import caption_recipe, write_photos


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Photos in Flickr8k's format: 16 to train on, 8 of dev."""
    return write_photos(tmp_path_factory.mktemp("photos") / "data")


def table(part: str, *, path: Path, split: str | None) -> str:
    """A setting that makes one source of a recipe's part."""
    chosen = f', split="{split}"' if split else ""
    return f'{part}=[{{format="flickr8k", path="{path}"{chosen}}}]'


def shared(data: Path, folder: Path, *settings: str) -> list[str]:
    """Names of the photos that a recipe trains and validates on."""
    path = folder / "c.toml"
    path.write_text(caption_recipe(data))
    recipe = load_recipe(path, list(settings))
    dev = [record for part in read_dev_sources(recipe.dev) for record in part]
    return [record.path.name for record in shared_photos(read_sources(recipe.data), dev)]


def test_splits_share_nothing_and_a_table_without_a_split_shares_all(data, tmp_path):
    assert shared(data, tmp_path) == []
    names = sorted(path.name for path in (data / "images").iterdir())
    assert shared(data, tmp_path, table("data", path=data, split=None)) == names[16:]
    assert shared(data, tmp_path, table("dev", path=data, split="train")) == names[:16]


@pytest.mark.parametrize("how", ["folder link", "file links", "copy"])
def test_the_same_photos_elsewhere_are_the_same_photos(data, tmp_path, how):
    other = tmp_path / "other"
    if how == "folder link":
        other.symlink_to(data)
    else:
        copy = shutil.copyfile if how == "copy" else lambda one, new: Path(new).symlink_to(one)
        shutil.copytree(data, other, copy_function=copy)
    found = shared(data, tmp_path, table("dev", path=other, split="train"))
    assert len(found) == 16
    assert shared(data, tmp_path, table("dev", path=other, split="dev")) == []


@pytest.mark.parametrize("can_list", [True, False])
def test_links_of_other_names_to_dev_photos_are_found(data, tmp_path, monkeypatch, can_list):
    def refuse(folder):
        raise PermissionError(folder)

    if not can_list:
        monkeypatch.setattr(os, "scandir", refuse)
    dev = datasets.read("flickr8k", data, split="dev")
    for number, photo in enumerate([dev[3].path, data / "images/0000_red.jpg"]):
        (tmp_path / f"{number}.jpg").symlink_to(photo)
    records = [
        CaptionRecord(f"data0/{number}.jpg", tmp_path / f"{number}.jpg", (), "train")
        for number in range(2)
    ]
    assert shared_photos(records, dev) == [dev[3]]
    assert shared_photos(records[1:], dev) == []


def test_many_photos_to_train_on_are_neither_kept_nor_looked_at(data, tmp_path, monkeypatch):
    dev = datasets.read("flickr8k", data, split="dev")
    records = [
        CaptionRecord(f"data0/{number}.jpg", tmp_path / f"{number}.jpg", (), "train")
        for number in range(2_000)
    ]
    for record in records:
        str(record.path)  # a path keeps its text
    lstat, looked_at = os.lstat, []
    monkeypatch.setattr(os, "lstat", lambda path: looked_at.append(path) or lstat(path))
    tracemalloc.start()
    assert shared_photos(records, dev) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(looked_at) < 100
    assert peak < 100e3  # bytes; a set of all paths took 500e3


def test_members_of_one_shard_are_told_apart_by_their_names(tmp_path):
    files = {}
    for seed, name in enumerate("abc"):
        files |= {f"{name}.jpg": jpeg(seed), f"{name}.txt": b"A dog."}
    records = datasets.read("webdataset", put_tar(tmp_path / "0.tar", files))
    one, *others = records
    assert shared_photos(others, [one]) == []
    assert shared_photos(records, [one]) == [one]


def test_other_photos_of_the_same_names_are_not_the_same(data, tmp_path):
    other = shutil.copytree(data, tmp_path / "other")
    photos = sorted((other / "images").iterdir())
    for photo, another in zip(photos[:16], [*photos[1:16], photos[0]], strict=True):
        photo.write_bytes((data / "images" / another.name).read_bytes())
    assert shared(data, tmp_path, table("dev", path=other, split="train")) == []


def test_a_run_with_shared_photos_is_refused_before_it_begins(data, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(caption_recipe(data))
    recipe = load_recipe(path, [table("data", path=data, split=None)])
    run = RunFolder(tmp_path / "run", recipe)
    expected = r"^tiny: 8 of the 8 photos of \[\[dev\]\] are trained on too, such as .*0016_red.jpg"
    with pytest.raises(InputError, match=expected):
        caption_stage.caption_recipe(recipe, run, Watch())
    assert not (tmp_path / "run/log.jsonl").exists()


@pytest.mark.parametrize(
    ("captions", "problem"),
    [(" ", "has an empty caption"), ("word " * 300, "a caption of 300 words")],
)
def test_dev_captions_are_looked_at_as_training_captions_are(data, tmp_path, captions, problem):
    other = shutil.copytree(data, tmp_path / "other")
    tokens = other / "Flickr8k.token.txt"
    tokens.write_text(tokens.read_text().replace("The picture is red .", captions))
    path = tmp_path / "c.toml"
    path.write_text(caption_recipe(data))
    recipe = load_recipe(path, [table("dev", path=other, split="dev")])
    with pytest.raises(InputError, match=rf"^tiny, \[\[dev\]\]: image .*{problem}"):
        caption_stage.caption_recipe(recipe, RunFolder(tmp_path / "run", recipe), Watch())
