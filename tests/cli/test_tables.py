"""Tables of a command, as plain lines and as drawn on a terminal."""

import re
import sys

from prefixcap.cli.tables import plain_table, show_table

HEADER = ["", "score", "[odd]"]
ROWS = [["BLEU-1", "7.0", "a"], ["x", "100.0", "[b]"]]


def test_plain_columns_are_aligned_first_to_the_left_others_to_the_right():
    assert plain_table("title", HEADER, ROWS) == [
        "title",
        "        score  [odd]",
        "BLEU-1    7.0      a",
        "x       100.0    [b]",
    ]


def test_a_terminal_gets_the_same_cells_and_brackets_are_no_markup(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    show_table("title", HEADER, ROWS)
    words = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).split()
    assert words == [word for line in plain_table("title", HEADER, ROWS) for word in line.split()]
