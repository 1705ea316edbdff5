"""Folders of runs and scores: what they are, what is missing, which are refused."""

from pathlib import Path

import pytest

from prefixcap.errors import InputError
from prefixcap.report.runs import FINISHED, NOT_TRAINED, UNFINISHED, Run, read_run, read_runs
from tests.tiny_report import captions_of, photos, write_run, write_scores


@pytest.fixture
def data(tmp_path):
    return photos(tmp_path)


def test_a_finished_run_with_scores_lacks_nothing(tmp_path, data):
    run = read_run(write_run(tmp_path / "good", data, captions_of(data)))
    assert (run.name, run.state, run.problems, run.broken) == ("good", FINISHED, [], 0)
    assert run.trained_parameters == 1_500_000
    assert list(run.sheets) == ["scores-dev.json"]


def test_an_unfinished_run_without_scores_says_both(tmp_path, data):
    run = read_run(write_run(tmp_path / "stopped", data, None, finished=False))
    assert run.state == UNFINISHED
    assert ["last logged step 4" in run.problems[0], "no scores yet" in run.problems[1]] == [
        True
    ] * 2
    assert run.broken == 0


def test_scores_alone_are_named_for_what_was_scored(tmp_path, data):
    run = read_run(write_scores(tmp_path / "mine", data, captions_of(data)).parent)
    assert (run.name, run.state) == ("mine", NOT_TRAINED)


def test_a_damaged_scores_file_is_a_problem_and_counts_as_broken(tmp_path, data):
    folder = write_run(tmp_path / "run", data, captions_of(data))
    whole = (folder / "scores-dev.json").read_text()
    (folder / "scores-test.json").write_text(whole[: len(whole) // 2])
    run = read_run(folder)
    assert run.broken == 1
    assert "scores-test.json: not whole JSON" in run.problems[0]
    assert list(run.sheets) == ["scores-dev.json"]


def test_names_differ_and_a_folder_counts_once(tmp_path, data):
    folders = [write_run(tmp_path / part / "run", data, None) for part in ("a", "b")]
    runs = read_runs([*folders, folders[0]])
    assert [run.name for run in runs] == ["run (a)", "run (b)"]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_of_something_else_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        read_runs([tmp_path / name])


def test_losses_over_words_and_over_pieces_of_words_mean_something_else():
    recipes = {
        "gpt": {"language_model": {"vocabulary": 4000}},
        "lstm": {"language_model": {"vocabulary": 4000}, "lstm": {"min_count": 3}},
        "attention": {"lstm": {"min_count": 3, "attention": True, "doubly_stochastic": 1.0}},
        "deeper": {"lstm": {"min_count": 3, "layers": 2}},
    }
    kinds = {
        name: Run(name, Path(name), "finished", one).loss_kind for name, one in recipes.items()
    }
    assert len(set(kinds.values())) == 3
    assert kinds["deeper"] == kinds["lstm"]
