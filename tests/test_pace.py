"""Speeds, memory and the time left of a run, by a clock that the test turns."""

import numpy as np
import pytest
import torch

from prefixcap import pace
from prefixcap.pace import Pace, peak_mib

CPU = torch.device("cpu")


class Clock:
    """Seconds that pass only when told to."""

    now = 50.0

    def perf_counter(self) -> float:
        return self.now


def test_speeds_are_of_the_last_steps_and_the_rest_takes_as_long_as_all_so_far(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    run = Pace(first=100, steps=200, device=CPU)
    clock.now += 4.0  # a step of 1 s, a validation of 3 s
    assert run.after(101, 1.0, {"tokens": 9, "captions": 9})["left_s"] == 99 * 4
    for step in range(102, 122):
        clock.now += 2.0
        values = run.after(step, 2.0, {"tokens": 500, "captions": 40})
    assert values["tokens_per_s"] == 250
    assert values["captions_per_s"] == 20
    assert values["step_s"] == 2
    assert values["left_s"] == pytest.approx(79 * 44 / 21, abs=0.1)


def test_peak_memory_grows_with_what_is_held_and_does_not_fall():
    before = peak_mib(CPU)
    held = np.ones(before * (1 << 17) + (64 << 17))  # more doubles than all memory so far, MiB
    peak = peak_mib(CPU)
    assert peak >= before + 64
    del held
    assert peak_mib(CPU) >= peak
