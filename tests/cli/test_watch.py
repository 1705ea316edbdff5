"""Progress away from a terminal: a line now and then, with what is left."""

import io
import re

import pytest

from prefixcap.cli import watch as cli_watch
from prefixcap.cli.watch import Watcher


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(cli_watch, "time", found)
    return found


def test_lines_come_every_ten_seconds_and_at_the_end(clock, capsys):
    with Watcher() as watcher:
        for done in range(31):
            watcher.show("photos", done, 30)
            clock.now += 1
    assert capsys.readouterr().err.splitlines() == [
        "photos: 10 of 30, 20 s left",
        "photos: 20 of 30, 10 s left",
        "photos: 30 of 30",
    ]


def test_what_is_left_counts_from_where_the_run_went_on(clock, capsys):
    watcher = Watcher()
    watcher.show("steps", 500, 1000)
    clock.now += 100
    watcher.show("steps", 510, 1000, "loss 2.5")
    assert capsys.readouterr().err == "steps: 510 of 1000, 1 h 22 min left  loss 2.5\n"


def test_the_rate_is_that_since_the_run_went_on(clock, capsys):
    watcher = Watcher()
    watcher.show("photos", 2048, 4096, rate=True)
    clock.now += 64
    watcher.show("photos", 2304, 4096, "2 of 2 processes", rate=True)
    expected = "photos: 2304 of 4096, 7 min left  4.0 photos/s, 2 of 2 processes\n"
    assert capsys.readouterr().err == expected


def test_two_kinds_are_told_apart(clock, capsys):
    watcher = Watcher()
    watcher.show("photos", 5, 5)
    watcher.show("steps", 1, 1)
    assert capsys.readouterr().err.splitlines() == ["photos: 5 of 5", "steps: 1 of 1"]


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(cli_watch.sys, "stderr", terminal)
    with Watcher() as watcher:
        watcher.show("photos", 1, 4, "a note")
        watcher.show("photos", 4, 4, "a note")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "photos" in shown
    assert "4/4" in shown
    assert "a note" in shown
