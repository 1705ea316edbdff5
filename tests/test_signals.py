"""Signals are noted inside the block, in order, and mean what they did before after it."""

import os
import signal

from prefixcap.signals import interruptible


def test_the_first_signal_is_noted_and_the_former_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with interruptible() as asked_to_stop:
        assert asked_to_stop() == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert asked_to_stop() == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
