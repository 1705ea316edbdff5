"""The choice of bfloat16 against what the machine does."""

import time

import pytest
import torch

from prefixcap import precision
from prefixcap.precision import bf16_is_fast


@pytest.fixture(autouse=True)
def forgotten():
    """Every test measures for itself."""
    precision._is_fast.cache_clear()
    yield
    precision._is_fast.cache_clear()


def test_answer_is_measured_in_under_a_third_of_a_second_of_cpu():
    begun = time.thread_time()
    bf16_is_fast()
    assert time.thread_time() - begun < 0.3


@pytest.mark.parametrize(("fp32", "bf16", "fast"), [(2.0, 1.0, True), (1.1, 1.0, False)])
def test_answer_follows_the_measured_ratio(monkeypatch, fp32: float, bf16: float, fast: bool):
    seconds = {torch.float32: fp32, torch.bfloat16: bf16}
    monkeypatch.setattr(precision, "can_pack", lambda dtype: True)
    monkeypatch.setattr(precision, "_seconds", seconds.__getitem__)
    assert bf16_is_fast() is fast


def test_without_bf16_kernels_it_is_not_fast(monkeypatch):
    monkeypatch.setattr(precision, "can_pack", lambda dtype: False)
    assert not bf16_is_fast()


def test_it_is_asked_once_per_process(monkeypatch):
    first = bf16_is_fast()
    monkeypatch.setattr(precision, "_seconds", lambda dtype: pytest.fail("measured again"))
    assert bf16_is_fast() is first


def test_a_device_that_is_neither_cpu_nor_cuda_gets_float32():
    assert not bf16_is_fast("meta")
