"""What a long run shows on a terminal and in a log, and how Ctrl-C ends it."""

import io
import signal
import sys
from pathlib import Path

import pytest
import typer

from prefixcap.captioner import Caption
from prefixcap.cli import progress as cli_progress
from prefixcap.cli.progress import Display, FirstInterrupt, name_skipped, printable
from prefixcap.folder import BatchDone, FolderReport
from prefixcap.images import Photo, Skipped


class Terminal(io.StringIO):
    """Text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def batch(done: int, total: int = 10) -> BatchDone:
    """Two captions and a skipped photo."""
    photos = [Photo(Path(f"{done}-{number}.jpg"), f"{done}-{number}.jpg") for number in (1, 2)]
    captions = {photo: [Caption("a dog", -0.5, [1], [-0.5])] for photo in photos}
    return BatchDone(captions, [Skipped(f"{done}-3.jpg", "is empty")], done, total)


def streams(monkeypatch, out: io.StringIO, err: io.StringIO) -> tuple[io.StringIO, io.StringIO]:
    """Put in place of stdout and stderr."""
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


def test_on_a_terminal_a_bar_shows_rate_and_progress(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out, err = streams(monkeypatch, io.StringIO(), Terminal())
    with Display(prints=False, scores=False, quiet=False) as display:
        display.show(batch(3))
        display.show(batch(10))
    assert "10/10" in err.getvalue() and "/s" in err.getvalue()
    assert out.getvalue() == ""


def test_captions_on_a_terminal_are_not_crossed_by_a_bar(monkeypatch):
    out, err = streams(monkeypatch, Terminal(), Terminal())
    with Display(prints=True, scores=False, quiet=False) as display:
        display.show(batch(3))
    assert out.getvalue() == "3-1.jpg: a dog\n3-2.jpg: a dog\n"
    assert err.getvalue() == "skipped 3-3.jpg: is empty\n"


def test_in_a_log_a_line_appears_now_and_then(monkeypatch):
    clock = iter([0.0, 1.0, 30.0, 30.0, 30.0])
    monkeypatch.setattr(cli_progress.time, "monotonic", lambda: next(clock))
    _, err = streams(monkeypatch, io.StringIO(), io.StringIO())
    with Display(prints=False, scores=False, quiet=False) as display:
        display.show(batch(3))
        display.show(batch(6, total=9))
    assert err.getvalue() == "6 of 9 photos, 0.2/s, 15 s left\n"


def test_kept_photos_do_not_count_as_speed(monkeypatch):
    clock = iter([0.0, 20.0, 20.0])
    monkeypatch.setattr(cli_progress.time, "monotonic", lambda: next(clock))
    _, err = streams(monkeypatch, io.StringIO(), io.StringIO())
    display = Display(prints=True, scores=False, quiet=False)
    display.show(batch(1003, total=1003))
    display.finish(FolderReport(2, 1000, (Skipped("a", "b"),), False), "captions.skipped.jsonl")
    last = err.getvalue().splitlines()[-1]
    assert last == (
        "2 photos captioned, 1000 kept as they were, 1 skipped (see captions.skipped.jsonl); "
        "0.1 photos/s"
    )


@pytest.mark.parametrize(("skipped", "expected"), [((), 0), ((Skipped("a", "b"),), 1)])
def test_quiet_says_only_what_went_wrong(monkeypatch, skipped, expected):
    _, err = streams(monkeypatch, io.StringIO(), Terminal())
    with Display(prints=False, scores=False, quiet=True) as display:
        display.show(batch(3))
        display.finish(FolderReport(1, 0, skipped, False), None)
    assert len(err.getvalue().splitlines()) == expected
    assert "1 photo captioned" in err.getvalue() or not expected


def test_a_name_cannot_steer_the_terminal():
    assert printable("a\x1b[2Jb\n.jpg") == "a\\x1b[2Jb\\n.jpg"
    assert printable("hü ß 犬.jpg") == "hü ß 犬.jpg"


def test_the_first_interrupt_is_noted_and_the_second_raised(capfd):
    former = signal.getsignal(signal.SIGINT)
    with FirstInterrupt() as interrupt:
        assert not interrupt.is_set()
        signal.raise_signal(signal.SIGINT)
        assert interrupt.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is former
    assert capfd.readouterr().err.count("stopping after the batches in hand") == 1


def test_skipped_photos_are_named_and_make_the_exit_code_1(capsys):
    name_skipped([])
    with pytest.raises(typer.Exit) as ended:
        name_skipped([Skipped("a\x1b.jpg", "is empty")])
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "skipped a\\x1b.jpg: is empty\n"
