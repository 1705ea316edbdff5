"""Signals are noted inside the block, in order, and mean what they did before after it."""

import os
import signal

import pytest

from prefixcap.signals import Terminated, interruptible, terminable


def test_the_first_signal_is_noted_and_the_former_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with interruptible() as asked_to_stop:
        assert asked_to_stop() == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert asked_to_stop() == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_termination_ends_a_block_but_waits_where_it_is_noted():
    before, reached = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(Terminated), terminable():
        with interruptible() as asked_to_stop:
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append(asked_to_stop())
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("after the signal")
    assert reached == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == before


def test_termination_that_would_be_lost_in_a_destructor_is_noted():
    class Thing:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with terminable():
        Thing()
        with interruptible() as asked_to_stop:
            assert asked_to_stop() == signal.SIGTERM
