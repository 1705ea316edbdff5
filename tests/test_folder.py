"""A folder is captioned whole, once, and the same however often the run was killed."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from prefixcap.captioner import Captioner
from prefixcap.config import DecodeOptions
from prefixcap.errors import InputError
from prefixcap.folder import BatchDone, FolderOptions, SidecarOptions, caption_folder
from prefixcap.images import PhotoSet, find_photo_set
from tests.source_tree import REPOSITORY
from tests.tiny_captioner import save_tiny_model, write_photos


@pytest.fixture(scope="module")
def captioner(tmp_path_factory) -> Captioner:
    folder = save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    return Captioner.from_pretrained(folder, device="cpu", dtype=torch.float32)


@pytest.fixture
def photos(tmp_path) -> PhotoSet:
    return find_photo_set([str(write_photos(tmp_path / "photos", 10))])


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def break_photo(photos: PhotoSet, number: int) -> str:
    """Key of a photo that can be read no longer."""
    photos.photos[number].path.write_text("no picture")
    return photos.photos[number].key


def test_every_photo_gets_a_record_in_order(captioner, photos, tmp_path):
    out = tmp_path / "captions.jsonl"
    report = caption_folder(captioner, photos, FolderOptions(out, batch_size=4))
    assert (report.written, report.kept, report.skipped, report.stopped) == (10, 0, (), False)
    expected = captioner.caption([photo.path for photo in photos.photos], batch_size=4)
    assert lines(out) == [
        {
            "path": photo.key,
            "caption": caption.text,
            "score": round(caption.score, 4),
            "model": captioner.name,
        }
        for photo, caption in zip(photos.photos, expected, strict=True)
    ]
    assert lines(out)[0]["path"] == "a/000.png" and lines(out)[5]["path"] == "b/000.png"


def test_worker_processes_write_the_same_file(captioner, photos, tmp_path):
    contents = []
    for workers in (0, 2):
        out = tmp_path / f"{workers}.jsonl"
        caption_folder(captioner, photos, FolderOptions(out, batch_size=3, workers=workers))
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]


def test_other_captions_have_columns_of_their_own(captioner, photos, tmp_path):
    options = DecodeOptions(max_tokens=8, beam_size=3, captions_per_image=3)
    caption_folder(captioner, photos, FolderOptions(tmp_path / "captions.jsonl", decoding=options))
    caption_folder(captioner, photos, FolderOptions(tmp_path / "captions.csv", decoding=options))
    first = lines(tmp_path / "captions.jsonl")[0]
    found = captioner.captions([photos.photos[0].path], options)[0]
    assert [first["caption"], first["caption_2"], first["caption_3"]] == [one.text for one in found]
    header = (tmp_path / "captions.csv").read_text().splitlines()[0]
    assert header == ",".join(first)


def test_what_cannot_be_read_is_listed_with_the_reason(captioner, photos, tmp_path):
    broken = break_photo(photos, 4)
    out = tmp_path / "captions.jsonl"
    report = caption_folder(captioner, photos, FolderOptions(out, batch_size=3))
    assert [one.key for one in report.skipped] == [broken]
    assert report.written == 9 and broken not in [record["path"] for record in lines(out)]
    (listed,) = lines(tmp_path / "captions.skipped.jsonl")
    assert listed["path"] == broken and "not a picture" in listed["reason"]


def test_a_mended_photo_is_captioned_by_the_next_run(captioner, photos, tmp_path):
    photo = photos.photos[4]
    content = photo.path.read_bytes()
    break_photo(photos, 4)
    options = FolderOptions(tmp_path / "captions.jsonl", batch_size=3)
    caption_folder(captioner, photos, options)
    again = caption_folder(captioner, photos, options)
    assert (again.written, again.kept, len(again.skipped)) == (0, 9, 1)
    photo.path.write_bytes(content)
    report = caption_folder(captioner, photos, options)
    assert (report.written, report.kept, report.skipped) == (1, 9, ())
    assert lines(tmp_path / "captions.jsonl")[-1]["path"] == photo.key
    assert not (tmp_path / "captions.skipped.jsonl").exists()


def test_a_finished_run_has_nothing_left_to_do(captioner, photos, tmp_path):
    options = FolderOptions(tmp_path / "captions.csv", SidecarOptions(existing="append"))
    caption_folder(captioner, photos, options)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    report = caption_folder(captioner, photos, options)
    assert (report.written, report.kept) == (0, 10)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_new_photos_are_added_to_a_finished_run(captioner, photos, tmp_path):
    options = FolderOptions(tmp_path / "captions.jsonl", batch_size=4)
    caption_folder(captioner, PhotoSet(photos.root, photos.photos[:7]), options)
    report = caption_folder(captioner, photos, options)
    assert (report.written, report.kept) == (3, 7)
    paths = [record["path"] for record in lines(tmp_path / "captions.jsonl")]
    assert paths == [photo.key for photo in photos.photos]


def test_a_deleted_sidecar_is_written_again(captioner, photos):
    options = FolderOptions(sidecar=SidecarOptions())
    caption_folder(captioner, photos, options)
    sidecar = photos.photos[2].path.with_suffix(".txt")
    text = sidecar.read_text()
    sidecar.unlink()
    report = caption_folder(captioner, photos, options)
    assert (report.written, report.kept, sidecar.read_text()) == (1, 9, text)


def test_with_skip_a_photo_that_has_a_sidecar_is_left_alone(captioner, photos):
    mine = photos.photos[3].path.with_suffix(".txt")
    mine.write_text("mine")
    report = caption_folder(captioner, photos, FolderOptions(sidecar=SidecarOptions()))
    assert (report.written, report.kept, mine.read_text()) == (9, 1, "mine")
    captions = captioner.caption([photo.path for photo in photos.photos])
    for photo, caption in zip(photos.photos, captions, strict=True):
        if photo is not photos.photos[3]:
            assert photo.path.with_suffix(".txt").read_text() == caption.text + "\n"


def test_a_sidecar_that_cannot_be_added_to_is_skipped(captioner, photos, tmp_path):
    photos.photos[1].path.with_suffix(".txt").write_bytes(b"\xff\xfe\xfa")
    options = FolderOptions(tmp_path / "captions.jsonl", SidecarOptions(existing="append"))
    report = caption_folder(captioner, photos, options)
    assert [one.key for one in report.skipped] == [photos.photos[1].key]
    assert report.written == len(lines(tmp_path / "captions.jsonl")) == 9


def test_progress_tells_each_batch_after_it_was_written(captioner, photos, tmp_path):
    broken, out = break_photo(photos, 9), tmp_path / "captions.jsonl"
    seen: list[BatchDone] = []

    def note(batch: BatchDone) -> None:
        seen.append(batch)
        assert len(lines(out)) == batch.done - len(batch.skipped)

    caption_folder(captioner, photos, FolderOptions(out, batch_size=4), note)
    assert [(batch.done, batch.total) for batch in seen] == [(4, 10), (8, 10), (10, 10)]
    assert [len(batch.captions) for batch in seen] == [4, 4, 1]
    assert [one.key for one in seen[2].skipped] == [broken]


def test_a_run_that_is_told_to_stop_continues_to_the_same_file(captioner, photos, tmp_path):
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    caption_folder(captioner, photos, FolderOptions(whole, batch_size=3))
    answers = iter([False, False, True])
    options = FolderOptions(stopped, batch_size=3)
    report = caption_folder(captioner, photos, options, None, lambda: next(answers))
    assert (report.written, report.stopped) == (6, True)
    report = caption_folder(captioner, photos, options)
    assert (report.written, report.kept, report.stopped) == (4, 6, False)
    assert stopped.read_bytes() == whole.read_bytes()


@pytest.fixture
def two_threads():
    """Two threads of torch's own inside a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_batches_side_by_side_are_those_of_one_lane(captioner, photos, tmp_path, two_threads):
    side, seen, threads = tmp_path / "side.jsonl", [], set()
    options = FolderOptions(side, batch_size=2)

    def tell(batch):
        seen.append(batch.done)
        threads.add(torch.get_num_threads())

    caption_folder(captioner, photos, options, tell)
    assert seen == [2, 4, 6, 8, 10] and threads == {1}
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    alone = tmp_path / "alone.jsonl"
    caption_folder(captioner, photos, FolderOptions(alone, batch_size=2))
    assert side.read_bytes() == alone.read_bytes()


def test_a_failure_in_a_lane_ends_the_run_with_what_came_before(
    captioner, photos, tmp_path, two_threads, monkeypatch
):
    whole, fifth = captioner.captions_of_levels, str(photos.photos[4].path)

    def failing(levels, options, paths):
        if fifth in paths:
            raise RuntimeError("no memory")
        return whole(levels, options, paths)

    monkeypatch.setattr(captioner, "captions_of_levels", failing)
    out = tmp_path / "out.jsonl"
    with pytest.raises(RuntimeError, match="no memory"):
        caption_folder(captioner, photos, FolderOptions(out, batch_size=2))
    assert torch.get_num_threads() == 2
    monkeypatch.undo()
    report = caption_folder(captioner, photos, FolderOptions(out, batch_size=2))
    assert (report.written, report.kept) == (6, 4)


def test_an_interrupt_does_not_wait_for_the_batches_in_hand(
    captioner, photos, tmp_path, two_threads, monkeypatch
):
    whole, first = captioner.captions_of_levels, str(photos.photos[0].path)

    def endless(levels, options, paths):
        while first not in paths:
            time.sleep(0.01)
        return whole(levels, options, paths)

    def interrupt(batch):
        raise KeyboardInterrupt

    monkeypatch.setattr(captioner, "captions_of_levels", endless)
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        caption_folder(captioner, photos, FolderOptions(out, batch_size=2), interrupt)
    assert len(out.read_text().splitlines()) == 2
    assert not [one for one in threading.enumerate() if one.name.startswith("captions")]
    assert torch.get_num_threads() == 2


def test_without_an_output_nothing_is_written(captioner, photos, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    seen: list[BatchDone] = []
    report = caption_folder(captioner, photos, FolderOptions(), seen.append)
    assert report.written == 10 and len(seen[0].captions) == 10
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> tuple[Path, dict[str, int]]:
    """Folder of the runs that `killed_runs` killed, and how often each was."""
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    folder = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "tests.killed_runs", str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, {name: int(kills) for name, kills in map(str.split, done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["jsonl", "csv", "parquet", "sidecars"])
def test_a_run_killed_at_every_change_of_a_file_ends_as_one_that_was_not(killed, scenario):
    folder, kills = killed
    trees = [
        {
            str(path.relative_to(folder / scenario / one)): path.read_bytes()
            for path in (folder / scenario / one).rglob("*")
            if path.is_file()
        }
        for one in ("whole", "killed")
    ]
    assert kills[scenario] > 8
    assert trees[0] == trees[1]


@pytest.mark.slow
def test_the_killed_runs_wrote_what_they_should(killed):
    folder, _ = killed
    records = lines(folder / "jsonl" / "killed" / "captions.jsonl")
    assert len(records) == 18 and len({record["path"] for record in records}) == 18
    assert len(lines(folder / "csv" / "killed" / "captions.skipped.jsonl")) == 2
    added = (folder / "csv" / "killed" / "photos" / "a" / "001.txt").read_text()
    assert added.startswith("an older text ") and added.count("older") == 1
    in_front = (folder / "sidecars" / "killed" / "photos" / "a" / "001.txt").read_text()
    assert in_front.endswith(", an older text\n")


def test_a_folder_option_that_no_run_could_serve_is_refused(tmp_path):
    for wrong, message in (
        ({"batch_size": 0}, "batch size 0"),
        ({"workers": -1}, "-1 workers"),
        ({"overwrite": True}, "no output"),
        ({"out": tmp_path / "captions.txt"}, "ends in .jsonl"),
    ):
        with pytest.raises(InputError, match=message):
            FolderOptions(**wrong)
