"""img2dataset's output in its three forms."""

import shutil
from pathlib import Path

import pytest

from prefixcap.datasets import img2dataset, photo_source
from prefixcap.errors import InputError
from tests.datasets.conftest import jpeg, put_json
from tests.datasets.downloads import DEAD, LINKS, put_output


@pytest.mark.parametrize("form", ["webdataset", "files", "parquet"])
def test_every_attempt_has_its_photo_or_a_reason(tmp_path: Path, form: str):
    found = {a.key: a for a in img2dataset.read_attempts(put_output(tmp_path, form, table=True))}
    assert len(found) == len(LINKS)
    for row, (caption, url) in enumerate(LINKS):
        attempt = found[f"{row:09d}"]
        assert (attempt.caption, attempt.url) == (caption, url)
        if row in DEAD:
            assert (attempt.path, attempt.reason) == (None, DEAD[row][1])
        else:
            source = photo_source(attempt.path)
            content = source if isinstance(source, bytes) else source.read_bytes()
            assert (content, attempt.reason) == (jpeg(row), "success")


@pytest.mark.parametrize("form", ["webdataset", "files"])
def test_photos_are_found_without_the_parquet(tmp_path: Path, form: str):
    whole = [
        a for a in img2dataset.read_attempts(put_output(tmp_path / "a", form, table=True)) if a.path
    ]
    bare = list(img2dataset.read_attempts(put_output(tmp_path / "b", form, table=False)))
    without_root = [(a.key, a.url, a.caption, a.path.relative_to(tmp_path / "a")) for a in whole]
    assert sorted(without_root) == sorted(
        (a.key, a.url, a.caption, a.path.relative_to(tmp_path / "b")) for a in bare
    )


def test_statistics_are_summed(tmp_path: Path):
    put_output(tmp_path)
    put_json(
        tmp_path / "00001_stats.json",
        {"count": 2, "successes": 0, "status_dict": {"HTTP Error 404: Not Found": 2}},
    )
    statistics = img2dataset.read_statistics(tmp_path)
    assert (statistics.count, statistics.successes) == (7, 3)
    assert statistics.reasons["HTTP Error 404: Not Found"] == 3
    assert img2dataset.is_output(tmp_path) and not img2dataset.is_output(tmp_path / "00000.tar")


def test_shard_with_other_photos_than_counted_is_refused(tmp_path: Path):
    put_output(tmp_path)
    stats = {"count": 5, "successes": 4, "status_dict": {}}
    put_json(tmp_path / "00000_stats.json", stats)
    with pytest.raises(InputError, match=r"3 photos are there, but 00000_stats\.json counts 4"):
        list(img2dataset.read_attempts(tmp_path))


def test_cut_off_shard_and_empty_folder_are_refused(tmp_path: Path):
    shard = put_output(tmp_path) / "00000.tar"
    shard.write_bytes(shard.read_bytes()[:4_000])
    with pytest.raises(InputError, match="cut off after 4000 bytes"):
        list(img2dataset.read_attempts(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no _stats\.json"):
        img2dataset.read_statistics(tmp_path / "empty")


@pytest.mark.parametrize("left", ["00001.tar", "00001.parquet", "00001"])
def test_shard_that_img2dataset_was_stopped_in_is_refused(tmp_path: Path, left: str):
    put_output(tmp_path, table=False)
    if "." in left:
        shutil.copy(tmp_path / "00000.tar", tmp_path / left)
    else:
        (tmp_path / left).mkdir()
        (tmp_path / left / "a.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=rf"1 shards without a _stats\.json, such as {left}"):
        list(img2dataset.read_attempts(tmp_path))


def test_what_is_no_shard_is_let_alone(tmp_path: Path):
    put_output(tmp_path, table=False)
    for name in ("20240101", "00001"):  # photos of a day; an empty folder
        (tmp_path / name).mkdir()
    (tmp_path / "20240101/a.jpg").write_bytes(b"x")
    assert len(list(img2dataset.read_attempts(tmp_path)))
    (tmp_path / "shards").mkdir()
    shutil.copy(tmp_path / "00000.tar", tmp_path / "shards")
    assert not img2dataset.is_output(tmp_path / "shards")
