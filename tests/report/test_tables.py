"""One table in three forms that other programs read."""

import csv
import io

from prefixcap.report.tables import Cell, Table, comma_separated, latex, latex_text, markdown

TABLE = Table(
    "t",
    "Scores x100 & more.",
    ["Model", "", "CIDEr-D", "nothing"],
    [
        [Cell("a_1|b", "source"), Cell("measured"), Cell("33.6", "30.6 to 36.7", True), Cell()],
        [Cell("paper"), Cell("published"), Cell("113"), Cell()],
    ],
)


def test_csv_has_notes_in_columns_of_their_own():
    rows = list(csv.reader(io.StringIO(comma_separated(TABLE))))
    assert rows[0] == ["Model", "Model, note", "", "CIDEr-D", "CIDEr-D, note", "nothing"]
    assert rows[1] == ["a_1|b", "source", "measured", "33.6", "30.6 to 36.7", ""]


def test_markdown_keeps_bars_inside_cells_and_aligns_numbers():
    lines = markdown(TABLE).splitlines()
    assert lines[1] == "| --- | --- | ---: | ---: |"
    assert lines[2].startswith("| a_1\\|b (source) | measured | **33.6** (30.6 to 36.7) |")
    assert lines[-1] == TABLE.caption


def test_latex_prints_special_characters_and_aligns_numbers():
    text = latex(TABLE)
    assert r"\begin{tabular}{llrr}" in text
    assert r"a\_1|b (source) & measured & \textbf{33.6} (30.6 to 36.7) &  \\" in text
    assert r"\caption{Scores x100 \& more.}" in text
    assert latex_text("50 % ~ \\") == r"50 \% \textasciitilde{} \textbackslash{}"


def test_latex_tells_a_minus_from_a_hyphen():
    rows = [[Cell("rate-0.001"), Cell("-2.6", "-8.8 to +2.7")]]
    text = latex(Table("t", "", ["a", "b"], rows))
    assert r"rate-0.001 & $-$2.6 ($-$8.8 to +2.7) \\" in text


def test_columns_in_which_nothing_is_said_can_be_left_out():
    assert list(TABLE.without_empty_columns().columns) == ["Model", "", "CIDEr-D"]


def test_times_and_signed_numbers_are_numbers():
    rows = [[Cell("m"), Cell("7 h (GTX1080)"), Cell("-2.6"), Cell("7 heads")]]
    table = Table("t", "", ["a", "b", "c", "d"], rows)
    assert [table.has_words(place) for place in (1, 2, 3)] == [False, False, True]
