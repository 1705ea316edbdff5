"""study.json: read as docs/studies.md says, refused where it is something else."""

import json

import pytest

from prefixcap.errors import InputError
from prefixcap.report.study import epoch_points, is_study, line_points, read_study
from tests.tiny_report import study_row, write_study


def test_lines_follow_their_axis_and_leave_out_what_is_not_finished(tmp_path):
    study = read_study(write_study(tmp_path / "s"))
    lines = line_points(study, "prefix length", "CIDEr")
    assert list(lines) == ["mlp", "transformer"]
    assert lines["mlp"] == [
        (5, 30.0, 1.0),
        (10, 40.0, 1.0),
        (80, 50.0, 1.0),
    ]
    assert [point[0] for point in lines["transformer"]] == [5, 10]
    assert line_points(study, "prefix length", "CIDEr", "train_")["mlp"][0] == (5, 50.0, 2.0)


def test_failed_runs_and_missing_scores_are_problems(tmp_path):
    problems = read_study(write_study(tmp_path / "s")).problems
    assert problems == [
        "transformer-80, seed 0: failed: the loss is nan",
        "METEOR is not scored: no Java",
    ]


def test_variants_of_other_data_are_not_comparable(tmp_path):
    split = {"name": "dev", "images": 8, "references": None}
    study = read_study(write_study(tmp_path / "s", split=split))
    assert not study.comparable
    assert "stand apart" in study.problems[-1]
    for row in study.rows:
        row["mean"] = {}
    assert not any("stand apart" in line for line in study.problems)


def test_epochs_are_means_over_finished_seeds():
    row = study_row("a", {}, 0)
    row["runs"][1] = row["runs"][1] | {"epochs": [{"epoch": 1, "loss": 5, "cider": None}]}
    assert epoch_points(row, "loss") == [(1, 4.0, pytest.approx(2**0.5))]
    row["runs"][1]["status"] = "missing"
    assert epoch_points(row, "cider") == [(1, 0.1, 0), (2, 0.2, 0)]


@pytest.mark.parametrize("changes", [{"format_version": 9}, {"rows": [{}]}, {"split": "dev"}])
def test_a_file_of_another_form_is_refused(tmp_path, changes):
    with pytest.raises(InputError, match=r"study\.json: .*prefixcap study"):
        read_study(write_study(tmp_path / "s", **changes))


def test_only_a_folder_with_a_study_s_file_is_a_study(tmp_path):
    assert not is_study(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps({"rows": []}))
    assert is_study(tmp_path)
    with pytest.raises(InputError, match="a study's file"):
        read_study(tmp_path)
