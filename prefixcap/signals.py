"""Signals that ask a long call to stop, noted so that it can save first."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """SIGTERM came while there was nothing to save; like KeyboardInterrupt, it passes all else."""


class _Termination:
    """Handler of SIGTERM that raises `Terminated`.

    From inside of a `__del__`, where that would be lost, it is noted for the next `interruptible`.
    """

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        while frame is not None:
            if frame.f_code.co_name == "__del__":
                return
            frame = frame.f_back
        raise Terminated


@contextmanager
def terminable() -> Iterator[None]:
    """Inside the block SIGTERM raises `Terminated`, save inside `interruptible`, where it waits."""
    former = signal.signal(signal.SIGTERM, _Termination())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextmanager
def interruptible() -> Iterator[Callable[[], int]]:
    """Inside the block SIGTERM and SIGINT are only noted; the yielded function reads the first."""
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    former = handlers[signal.SIGTERM]
    if isinstance(former, _Termination) and former.came:
        received.append(signal.SIGTERM)
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
