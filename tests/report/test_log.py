"""The log of a run that was stopped and went on."""

import pytest

from prefixcap.report.log import TrainingLog, read_log, smoothed
from tests.tiny_report import photos, write_run


@pytest.fixture
def log(tmp_path) -> TrainingLog:
    return read_log(write_run(tmp_path / "run", photos(tmp_path), None) / "log.jsonl")


def test_a_step_that_was_trained_twice_counts_as_trained_last(log):
    assert log.losses == {1: 5.0, 2: 2.5, 3: 2.5, 4: 2.0}


def test_training_time_is_that_of_all_starts_without_reading_photos(log):
    assert log.seconds == (7 - 3) + (8 - 2)


def test_validations_name_the_best_step_and_no_bookkeeping(log):
    assert log.validations[3] == {"flickr8k CIDEr": 0.25, "dev_loss": 3.5}
    assert (log.best_step, log.last_step, log.trained_parameters) == (3, 4, 1_500_000)


def test_a_line_cut_off_by_a_kill_is_counted_and_the_rest_read(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"seconds": 1, "step": 1, "loss": 2.0}\n{"seconds": 2, "st')
    assert read_log(path) == TrainingLog({1: 2.0}, seconds=1, damaged=1)
    assert read_log(tmp_path / "none.jsonl") == TrainingLog()


def test_photos_left_out_count_once_however_often_the_run_began(tmp_path):
    path = tmp_path / "log.jsonl"
    start = (
        '{"skipped": "a.jpg", "reason": "is damaged"}\n{"skipped": "b.jpg", "reason": "gone"}\n'
        '{"photos_not_stored": 3}\n{"step": 1, "loss": 2.0}\n'
    )
    path.write_text(start)
    assert read_log(path).left_out == 5
    path.write_text(start + start)
    assert read_log(path).left_out == 5


def test_smoothing_keeps_a_constant_and_leaves_few_values_alone():
    assert smoothed([3.0] * 300) == pytest.approx([3.0] * 300)
    assert smoothed([1.0, 9.0, 4.0]) == [1.0, 9.0, 4.0]
    assert max(smoothed([0.0, 10.0] * 200)) < 8
