"""What a run over many photos shows: captions, progress, what was skipped; Ctrl-C."""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

import typer

from prefixcap.cli.watch import BarOrLines

if TYPE_CHECKING:
    from prefixcap.captioner import Caption
    from prefixcap.folder import BatchDone, FolderReport
    from prefixcap.photo_search import Skipped


class Stopped(Exception):
    """A run was stopped by Ctrl-C; the message says what is left and how to go on."""


class FirstInterrupt:
    """Inside, the first Ctrl-C only sets `is_set`; the second one interrupts as usual."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._former: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._former is not None:
            signal.signal(signal.SIGINT, self._former)

    def is_set(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._event.is_set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Note the first interrupt, raise the next."""
        if self._event.is_set():
            raise KeyboardInterrupt
        self._event.set()
        # Not through Python's stderr, which the signal may have interrupted in a write.
        os.write(2, b"stopping after the batches in hand; Ctrl-C again stops at once\n")


class Display(BarOrLines):
    """Shows a run: captions on stdout where nothing else keeps them, progress on stderr.

    Args:
        prints: print each caption, since there is no output file.
        scores: print its score too.
        quiet: no progress and no last line.
    """

    def __init__(self, *, prints: bool, scores: bool, quiet: bool) -> None:
        self._prints, self._scores, self._quiet = prints, scores, quiet
        # Captions that appear on the terminal are the progress; a bar would run through them.
        printed = prints and sys.stdout.isatty()
        super().__init__(shows_bar=sys.stderr.isatty() and not printed and not quiet)
        self._started = self._shown
        self._dealt_with = 0  # photos of this run, so that kept ones do not count as speed
        self._task: Any = None

    def show(self, batch: "BatchDone") -> None:
        """Print what a batch gave, and how far the run is."""
        self._dealt_with += len(batch.captions) + len(batch.skipped)
        if self._prints:
            for photo, captions in batch.captions.items():
                self._print(photo.key, captions)
            for skipped in batch.skipped:
                typer.echo(_skipped_line(skipped), err=True)
        if self._bar is not None:
            self._advance(batch)
        elif not self._quiet and not self._prints:
            self._print_progress(batch)

    def rate(self) -> float:
        """Photos per second of this run."""
        return self._dealt_with / max(time.monotonic() - self._started, 1e-9)

    def finish(self, report: "FolderReport", listed_in: str | None) -> None:
        """Print the counts of a finished run; with `quiet` only where photos were skipped."""
        if report.skipped or not self._quiet:
            typer.echo(self._last_line(report, listed_in), err=True)

    def _last_line(self, report: "FolderReport", listed_in: str | None) -> str:
        """The counts of a finished run."""
        parts = [f"{counted(report.written)} captioned"]
        if report.kept:
            parts.append(f"{report.kept} kept as they were")
        if report.skipped:
            where = f" (see {listed_in})" if listed_in else ""
            parts.append(f"{len(report.skipped)} skipped{where}")
        return f"{', '.join(parts)}; {self.rate():.1f} photos/s"

    def _print(self, key: str, captions: "Sequence[Caption]") -> None:
        """A line for each caption of a photo."""
        for caption in captions:
            score = f"  ({_score(caption)})" if self._scores else ""
            typer.echo(f"{printable(key)}: {caption.text}{score}")

    def _advance(self, batch: "BatchDone") -> None:
        """Move the bar."""
        if self._task is None:
            self._task = self._bar.add_task("photos", total=batch.total, note="")
        self._bar.update(self._task, completed=batch.done, note=f"{self.rate():.1f}/s")

    def _print_progress(self, batch: "BatchDone") -> None:
        """A plain line now and then."""
        if not self._is_time():
            return
        left_s = (batch.total - batch.done) / max(self.rate(), 1e-9)
        typer.echo(
            f"{batch.done} of {batch.total} photos, {self.rate():.1f}/s, {left_s:.0f} s left",
            err=True,
        )


def printable(text: str) -> str:
    """`text` without characters that would steer a terminal."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def counted(photos: int) -> str:
    """ "1 photo", "2 photos"."""
    return f"{photos} photo{'' if photos == 1 else 's'}"


def name_skipped(photos: "Sequence[Skipped]") -> None:
    """Print a line on each photo that could not be read; the exit code is then 1.

    Raises:
        typer.Exit: there are some.
    """
    for photo in photos:
        typer.echo(_skipped_line(photo), err=True)
    if photos:
        raise typer.Exit(1)


def _skipped_line(photo: "Skipped") -> str:
    """One photo that could not be read, and why."""
    return f"skipped {printable(photo.key)}: {printable(photo.reason)}"


def _score(caption: "Caption") -> str:
    """A caption's score, and its confidence where the model is calibrated."""
    if caption.confidence is None:
        return f"{caption.score:.3f}"
    return f"{caption.score:.3f}, right {100 * caption.confidence:.0f} %"
