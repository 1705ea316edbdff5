"""How far a long command is: a bar on a terminal, elsewhere a line now and then; on stderr."""

import sys
import time
from typing import Any, Self

import typer

LINE_INTERVAL_S = 10  # between plain lines


class BarOrLines:
    """Inside, a bar is on the terminal where `shows_bar`; else its user prints lines."""

    def __init__(self, *, shows_bar: bool) -> None:
        self._bar: Any = progress_bar() if shows_bar else None
        self._shown = time.monotonic()  # the last line

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _is_time(self) -> bool:
        """Whether the last line is so long ago that another one may follow; it then counts."""
        now = time.monotonic()
        if now - self._shown < LINE_INTERVAL_S:
            return False
        self._shown = now
        return True


class Watcher(BarOrLines):
    """Shows counts of one or several kinds, such as photos read and then steps trained."""

    def __init__(self) -> None:
        super().__init__(shows_bar=sys.stderr.isatty())
        self._tasks: dict[str, Any] = {}
        self._began: dict[str, tuple[float, int]] = {}  # first sight: when, and at which count

    def show(self, what: str, done: int, total: int, note: str = "", *, rate: bool = False) -> None:
        """`done` of `total` things called `what`, how many a second if asked, and a note."""
        began, first = self._began.setdefault(what, (time.monotonic(), done))
        if rate and done > first:
            speed = (done - first) / max(time.monotonic() - began, 1e-9)
            note = ", ".join(filter(None, [f"{speed:,.1f} {what}/s", note]))
        if self._bar is None:
            self._show_line(what, done, total, note)
            return
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total, completed=done, note=note)
        self._bar.update(self._tasks[what], completed=done, total=total, note=note)

    def _show_line(self, what: str, done: int, total: int, note: str) -> None:
        """A plain line where the last one is long ago, or this is the end."""
        began, first = self._began[what]
        if not self._is_time() and done < total:
            return
        now, left = time.monotonic(), ""
        if first < done < total:
            left = f", {_duration((now - began) * (total - done) / (done - first))} left"
        typer.echo(f"{what}: {done} of {total}{left}  {note}".rstrip(), err=True)


def _duration(seconds: float) -> str:
    """Seconds as "1 h 02 min", "3 min" or "20 s"."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 100 else f"{seconds:.0f} s"


def progress_bar() -> Any:
    """Progress bar on stderr with counts, time left, and each task's field `note`."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    note = TextColumn("{task.fields[note]}")
    name = TextColumn("{task.description}")
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
    return Progress(*columns, console=Console(stderr=True))
