"""Outputs of a run know what is written, what may be continued, and leave nothing behind."""

import json
import os
from pathlib import Path

import pytest

from prefixcap.errors import InputError
from prefixcap.folder_outputs import (
    FolderOptions,
    OutputPlan,
    Outputs,
    begun_precision,
    skipped_path,
)
from prefixcap.images import Photo, PhotoSet, Skipped
from prefixcap.sidecars import SidecarOptions

COLUMNS = ("path", "caption", "score", "model")
SETTINGS = {"model": "mini", "precision": "float32", "decoding": {"beam_size": 1, "seed": 0}}


@pytest.fixture
def photos(tmp_path) -> PhotoSet:
    root = tmp_path / "photos"
    root.mkdir()
    return PhotoSet(root, tuple(Photo(root / f"{one}.jpg", f"{one}.jpg") for one in "abc"))


def records(photos: PhotoSet, *numbers: int) -> dict[Photo, dict]:
    chosen = [photos.photos[number] for number in numbers]
    return {
        photo: {"path": photo.key, "caption": "a dog", "score": -1.0, "model": "mini"}
        for photo in chosen
    }


def plan(options: FolderOptions, **changes: object) -> OutputPlan:
    return OutputPlan(options, COLUMNS, {**SETTINGS, **changes})


def test_what_is_written_is_known_to_the_next_run(photos, tmp_path):
    options = FolderOptions(tmp_path / "captions.csv")
    with Outputs(plan(options), photos) as outputs:
        outputs.write(records(photos, 0), [Skipped("b.jpg", "is empty")])
        assert [outputs.is_written(photo) for photo in photos.photos] == [True, False, False]
    with Outputs(plan(options), photos) as outputs:
        assert [outputs.is_written(photo) for photo in photos.photos] == [True, False, False]
        assert outputs.skipped_before == {"b.jpg"}


def test_a_finished_run_leaves_no_working_files(photos, tmp_path):
    options = FolderOptions(tmp_path / "captions.jsonl", SidecarOptions())
    (tmp_path / ".captions.skipped.jsonl.torn.part").write_text("left by a kill")
    with Outputs(plan(options), photos) as outputs:
        outputs.write(records(photos, 0, 1), [Skipped("c.jpg", "is empty")])
        assert (tmp_path / "captions.jsonl.sidecars.jsonl").exists()
        outputs.finish([Skipped("c.jpg", "is empty")])
    names = {"captions.jsonl", "captions.jsonl.run.json", "captions.skipped.jsonl", "photos"}
    assert set(os.listdir(tmp_path)) == names
    with Outputs(plan(options), photos) as outputs:
        outputs.write(records(photos, 2), [])
        outputs.finish([])
    assert set(os.listdir(tmp_path)) == names - {"captions.skipped.jsonl"}


def test_the_skipped_list_is_in_the_order_of_the_photos(photos, tmp_path):
    options = FolderOptions(tmp_path / "captions.jsonl")
    both = [Skipped("c.jpg", "is empty"), Skipped("a.jpg", "is a PDF")]
    with Outputs(plan(options), photos) as outputs:
        outputs.write({}, both)
        outputs.finish(both)
    listed = (tmp_path / "captions.skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in listed] == ["a.jpg", "c.jpg"]


def test_sidecars_alone_keep_their_place_in_a_hidden_file(photos):
    options = FolderOptions(sidecar=SidecarOptions())
    with Outputs(plan(options), photos) as outputs:
        outputs.write(records(photos, 0, 1), [])
        outputs.finish([])
    visible = {name for name in os.listdir(photos.root) if not name.startswith(".")}
    assert visible == {"a.txt", "b.txt"}
    with Outputs(plan(options), photos) as outputs:
        assert [outputs.is_written(photo) for photo in photos.photos] == [True, True, False]
    assert skipped_path(options.record_path(photos.root)).name == "captions.skipped.jsonl"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "other"}, "begun with model 'mini', now it is 'other'"),
        ({"precision": "bfloat16"}, "begun with precision 'float32'"),
        ({"decoding": {"beam_size": 5, "seed": 0}}, "begun with beam size 1, now it is 5"),
    ],
)
def test_other_settings_are_refused_by_name(photos, tmp_path, changes, message):
    options = FolderOptions(tmp_path / "captions.jsonl")
    with Outputs(plan(options), photos) as outputs:
        outputs.write(records(photos, 0), [])
    with pytest.raises(InputError, match=message):
        Outputs(plan(options, **changes), photos)
    assert begun_precision(tmp_path / "captions.jsonl") == "float32"


def test_other_sidecars_or_other_photos_are_refused(photos, tmp_path):
    out = tmp_path / "captions.jsonl"
    with Outputs(plan(FolderOptions(out)), photos):
        pass
    with pytest.raises(InputError, match=r"begun with sidecar none, now it is suffix '\.txt'"):
        Outputs(plan(FolderOptions(out, SidecarOptions())), photos)
    with pytest.raises(InputError, match=r"begun with photos 'photos', now it is '\.'"):
        Outputs(plan(FolderOptions(out)), PhotoSet(tmp_path, photos.photos))


def test_photos_and_output_can_be_moved_together(photos, tmp_path):
    with Outputs(plan(FolderOptions(tmp_path / "captions.jsonl")), photos) as outputs:
        outputs.write(records(photos, 0), [])
    new = tmp_path / "elsewhere"
    new.mkdir()
    for name in ("photos", "captions.jsonl", "captions.jsonl.run.json"):
        (tmp_path / name).rename(new / name)
    moved = PhotoSet(
        new / "photos", tuple(Photo(new / "photos" / one.key, one.key) for one in photos.photos)
    )
    with Outputs(plan(FolderOptions(new / "captions.jsonl")), moved) as outputs:
        assert outputs.is_written(moved.photos[0])


@pytest.mark.parametrize("name", ["captions.jsonl", "captions.csv", "captions.parquet"])
def test_overwrite_starts_anew(photos, tmp_path, name):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    (tmp_path / name).write_text("something else\n")
    with pytest.raises(InputError, match="--overwrite"):
        Outputs(plan(FolderOptions(tmp_path / name)), photos)
    options = FolderOptions(tmp_path / name, overwrite=True)
    for _ in range(2):
        with Outputs(plan(options), photos) as outputs:
            assert not outputs.is_written(photos.photos[0])
            outputs.write(records(photos, 0), [Skipped("b.jpg", "is empty")])


def test_with_skip_only_foreign_sidecars_are_left_out(photos, tmp_path):
    (photos.root / "a.txt").write_text("mine")
    options = FolderOptions(tmp_path / "captions.jsonl", SidecarOptions())
    with Outputs(plan(options), photos) as outputs:
        assert [outputs.is_left_out(photo) for photo in photos.photos] == [True, False, False]
        outputs.write(records(photos, 1), [])
        assert [outputs.is_left_out(photo) for photo in photos.photos] == [True, False, False]
        outputs.finish([])
    with Outputs(plan(options), photos) as outputs:  # its working file of sidecars is gone now
        assert [outputs.is_left_out(photo) for photo in photos.photos] == [True, False, False]


def test_broken_settings_beside_an_output_are_one_line(photos, tmp_path):
    (tmp_path / "captions.jsonl.run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json: cannot be read .*--overwrite"):
        Outputs(plan(FolderOptions(tmp_path / "captions.jsonl")), photos)


def test_an_output_without_a_folder_gets_one(photos, tmp_path):
    out = Path(tmp_path / "new" / "deep" / "captions.jsonl")
    with Outputs(plan(FolderOptions(out)), photos) as outputs:
        outputs.write(records(photos, 0), [])
    assert out.exists()
