"""Tables of a report: numbers x100, measured beside published, nothing invented."""

from pathlib import Path

import pytest

from prefixcap.metrics import compare
from prefixcap.published import all_published_rows
from prefixcap.report.errors import ErrorCounts
from prefixcap.report.groups import Group, score_groups
from prefixcap.report.log import TrainingLog
from prefixcap.report.results import (
    duration,
    errors_table,
    published_apart_table,
    results_table,
    runs_table,
    study_table,
)
from prefixcap.report.runs import Run, read_runs
from prefixcap.report.study import read_study
from prefixcap.report.tables import Cell, Table
from tests.tiny_report import captions_of, photos, write_run, write_study


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    data = photos(folder)
    texts = (("right", None), ("red", "a red photo"))
    folders = [write_run(folder / name, data, captions_of(data, text)) for name, text in texts]
    return read_runs([*folders, write_run(folder / "stopped", data, None, finished=False)])


@pytest.fixture(scope="module")
def group(runs) -> Group:
    return score_groups(runs)[0]


def column(table: Table, name: str) -> list[str]:
    """Texts of one column."""
    return [row[list(table.columns).index(name)].text for row in table.rows]


def test_scores_stand_x100_with_weights_and_time(group):
    table = results_table(group)
    facts = group.entries[0].sheet.facts
    assert column(table, "Model") == ["right", "red"]
    assert column(table, "Source")[0] == "measured"
    assert column(table, "CIDEr-D")[0] == f"{100 * facts['scores']['CIDEr']:.1f}"
    assert column(table, "Trained weights (M)") == ["1.50", "1.50"]
    assert column(table, "Training time") == ["10 s", "10 s"]
    assert [row[5].best for row in table.rows] == [True, False]


def test_difference_to_the_first_is_that_of_the_paired_test(group):
    first, second = (one.sheet.statistics["CIDEr"] for one in group.entries)
    test = compare(second, first)
    table = results_table(group)
    place = list(table.columns).index("CIDEr-D less the first")
    cell = table.rows[1][place]
    assert cell.text == f"{100 * test.difference:+.1f}"
    assert cell.note.endswith(f"p {test.p_value:.3f}")
    assert table.rows[0][place].text == ""


def test_published_rows_stand_as_printed_beside_or_apart(group):
    published = all_published_rows("coco-karpathy", "test")
    table = results_table(Group("n", "coco-karpathy", "test", group.entries, published))
    place = column(table, "Model").index("paper, transformer")
    assert column(table, "Source")[place] == "published"
    assert column(table, "CIDEr-D")[place] == "113.08"
    assert table.rows[place][-1] == Cell("6 h", "GTX1080")
    assert "Published: Mokady et al. 2021" in table.caption
    apart = Group("n", "d", "val", group.entries, (), "", [(published[0], "other images")])
    assert column(published_apart_table(apart), "Why it stands apart") == ["other images"]
    assert published_apart_table(group) is None


def test_runs_say_how_far_they_came(runs):
    table = runs_table(runs)
    assert column(table, "State") == ["finished", "finished", "unfinished"]
    assert column(table, "Best at step") == ["3"] * 3
    assert column(table, "Machine")[0] == "x86_64, torch 2.6"


def test_runs_name_what_they_train():
    mapper, lstm = {"kind": "transformer"}, {"attention": False}
    recipes = [
        {"stage": "distill", "mapper": mapper},
        {"stage": "caption", "mapper": mapper, "lstm": lstm},
        {"stage": "caption", "mapper": mapper, "lstm": {"attention": True}},
        {"stage": "caption", "mapper": mapper, "language_model": {"frozen": True}},
        {"stage": "caption", "mapper": {"kind": "mlp"}, "language_model": {"frozen": False}},
        {"stage": "caption", "mapper": mapper, "language_model": {"frozen": True, "lora_rank": 8}},
    ]
    found = runs_table([Run("r", Path("r"), "finished", recipe) for recipe in recipes])
    assert column(found, "What trains") == [
        "distill",
        "LSTM",
        "LSTM with attention",
        "Transformer, LM frozen",
        "MLP, LM tuned",
        "Transformer, LM LoRA",
    ]


@pytest.mark.parametrize(
    ("count", "text"), [(5_200_000, "5.20"), (12_017_288, "12.0"), (1_240_000_000, "1,240")]
)
def test_weights_have_three_digits_at_any_size(count, text):
    run = Run("r", Path("r"), "finished", {}, log=TrainingLog(trained_parameters=count))
    assert column(runs_table([run]), "Trained weights (M)") == [text]


def test_error_classes_stand_in_percent():
    table = errors_table("g", [ErrorCounts("m", 8, {"object": 0.125}, 0.25)])
    assert (column(table, "object"), column(table, "any class")) == (["12.5"], ["25.0"])
    assert errors_table("g", []) is None


def test_a_study_s_unfinished_variant_has_no_numbers(tmp_path):
    table = study_table(read_study(write_study(tmp_path / "prefix")))
    assert column(table, "CIDEr-D") == ["30.0", "40.0", "50.0", "60.0", "70.0", ""]
    assert table.rows[0][3].note == "±1.0"
    assert column(table, "Training (min)")[-1] == ""


def test_time_is_read_in_a_unit_that_fits():
    assert [duration(value) for value in (12, 1700, 9000)] == ["12 s", "28 min", "2.5 h"]
