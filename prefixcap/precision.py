"""Whether bfloat16 is worth using on a device; measured, since no processor flag says so."""

import time
from functools import cache

import torch
from torch import Tensor

from prefixcap.packed_linear import Linear, can_pack, fast_linear

ROWS, WIDTH, INNER = 64, 768, 3072  # the largest layer of GPT-2 small at a usual batch
ROUNDS = 7  # of which the fastest counts; one takes 1 to 5 ms
WORTH = 1.25  # times as fast as float32: below that, rounding buys nothing


def bf16_is_fast(device: str | torch.device = "cpu") -> bool:
    """Whether matrix products in bfloat16 clearly beat float32 on `device`; asked once a process.

    On a CPU this is timed, in about 0.1 s of one process; a GPU since NVIDIA's Ampere has it.
    """
    return _is_fast(torch.device(device).type)


def fast_precision(device: str | torch.device = "cpu") -> str:
    """What `train.precision = "auto"` means on `device`: "bf16" where that is fast, else "fp32"."""
    return "bf16" if bf16_is_fast(device) else "fp32"


@cache
def _is_fast(kind: str) -> bool:
    """The answer for a type of device."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu" or not can_pack(torch.bfloat16):
        return False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for one another, and for whatever else the machine does
    try:
        return _seconds(torch.float32) > WORTH * _seconds(torch.bfloat16)
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def _seconds(dtype: torch.dtype) -> float:
    """Seconds of this thread for one linear layer in `dtype`."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, WIDTH, generator=generator).to(dtype)
    weight = torch.randn(INNER, WIDTH, generator=generator).to(dtype)
    linear = fast_linear(weight, None)
    return min(_seconds_of(linear, x) for _ in range(ROUNDS))


def _seconds_of(linear: Linear, x: Tensor) -> float:
    """Seconds that this thread works on one call; waiting for a processor does not count."""
    begun = time.thread_time()
    linear(x)
    return time.thread_time() - begun
