"""What a report holds: every folder is shown, and what is wrong in it is said."""

import pytest

from prefixcap.errors import InputError
from prefixcap.report.content import ReportOptions, collect
from prefixcap.report.prefix import WORDS_FILE
from tests.tiny_report import captions_of, photos, write_run, write_study

pytest.importorskip("matplotlib")


def test_runs_and_studies_have_their_sections_and_empty_ones_are_left_out(tmp_path):
    data = photos(tmp_path)
    run = write_run(tmp_path / "run", data, captions_of(data))
    study = write_study(tmp_path / "prefix")
    report = collect([run, study], ReportOptions())
    names = [name for _, name in report.contents]
    assert names[:4] == ["Results", "Runs", "Training curves", "Studies"]
    assert not {"Embedding map", "Prefix words"} & set(names)
    assert report.summary.startswith("1 run, 1 study, 1 split, written ")
    assert (report.leads[0].model, report.leads[0].split) == ("run", "flickr8k dev, 8 images")
    assert len({table.name for table in report.tables}) == len(report.tables)
    assert len({chart.name for chart in report.charts}) == len(report.charts)


def test_studies_of_the_same_name_do_not_overwrite_each_other(tmp_path):
    folders = [write_study(tmp_path / place / "prefix") for place in "ab"]
    report = collect(folders, ReportOptions())
    assert [part.study.name for part in report.studies] == ["prefix", "prefix-2"]
    assert len({table.name for table in report.tables}) == len(report.tables)
    assert len({chart.name for chart in report.charts}) == len(report.charts)


def test_an_unfinished_run_is_shown_and_named_but_breaks_nothing(tmp_path):
    run = write_run(tmp_path / "stopped", photos(tmp_path), None, finished=False)
    report = collect([run], ReportOptions())
    assert [line.partition(":")[0] for line in report.problems] == ["stopped"] * 2
    assert (report.broken, report.splits, report.leads) == (0, [], [])


def test_a_damaged_file_of_words_is_a_problem(tmp_path):
    run = write_run(tmp_path / "run", photos(tmp_path), None)
    (run / WORDS_FILE).write_text("{")
    (run / "log.jsonl").unlink()
    report = collect([run], ReportOptions())
    assert (report.broken, report.words) == (1, [])


def test_a_study_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(InputError, match=r"study\.json"):
        collect([tmp_path], ReportOptions())
