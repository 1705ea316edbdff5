"""How many runs of a study go side by side."""

from pathlib import Path

from prefixcap.recipe import load_recipe
from prefixcap.study import schedule as study
from tests.tiny_run import caption_recipe


def test_runs_side_by_side_leave_room_for_threads_and_memory(tmp_path: Path, monkeypatch):
    (tmp_path / "c.toml").write_text(caption_recipe(tmp_path))
    one = load_recipe(tmp_path / "c.toml")
    two = load_recipe(tmp_path / "c.toml", ["train.threads=2"])
    monkeypatch.setattr(study.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(study, "_free_mib", lambda: 100_000)
    assert study.default_jobs([one, one]) == 8
    assert study.default_jobs([one, two]) == 4
    monkeypatch.setattr(study, "_free_mib", lambda: 2 * study.WORKING_MIB)
    assert study.default_jobs([one]) == 2
    monkeypatch.setattr(study, "_free_mib", lambda: 10)
    assert study.default_jobs([one]) == 1
