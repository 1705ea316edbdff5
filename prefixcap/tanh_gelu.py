"""GPT-2's activation with its derivative, both while a part of the input is in the cache.

GELU in its tanh form (Hendrycks and Gimpel 2016, section 2) is x s(u) with the logistic function s
and u = 2c (x + a x^3), c = sqrt(2 / pi), a = 0.044715. Its derivative is s + x s (1 - s) u'.
PyTorch's own spends most of its time on a tanh in bfloat16, forward and again backward
(benchmarks/step_parts.py has the times of both).
"""

import math
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

AT_ONCE = 48 * 1024  # elements, of which three float32 copies stay in a processor's own cache
CUBIC = 0.044715
TWICE_C = 2 * math.sqrt(2 / math.pi)


def tanh_gelu_(x: Tensor) -> Tensor:
    """GELU of `x` (n, W) float, written over it; computed in float32 at least."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _TanhGelu.apply(x)
    _write_over(x, None)
    return x


class _TanhGelu(torch.autograd.Function):
    """Keeps the derivative in place of the input, so that the backward pass is one product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        slope = torch.empty_like(x)
        _write_over(x, slope)
        ctx.mark_dirty(x)
        ctx.save_for_backward(slope)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0]


def _write_over(x: Tensor, slope: Tensor | None) -> None:
    """Write GELU over `x` (n, W), and its derivative there to `slope` (n, W), if it is given."""
    step = max(1, AT_ONCE // max(1, x.shape[1]))
    exact = torch.promote_types(x.dtype, torch.float32)
    scratch = [x.new_empty(min(step, len(x)), x.shape[1], dtype=exact) for _ in range(3)]
    linear = scratch[0].new_full((1, 1), TWICE_C)
    slopes = repeat(None) if slope is None else slope.split(step)
    for given, rate in zip(x.split(step), slopes, strict=False):
        if len(given) < len(scratch[0]):  # the last part
            scratch = [table[: len(given)] for table in scratch]
        part, inner, gate = scratch
        part.copy_(given)
        torch.addcmul(linear, part, part, value=TWICE_C * CUBIC, out=inner)  # u / x
        torch.mul(part, inner, out=gate).sigmoid_()
        if rate is not None:
            torch.addcmul(linear, part, part, value=3 * TWICE_C * CUBIC, out=inner)  # u'
        given.copy_(part.mul_(gate))
        if rate is not None:
            inner.mul_(part)  # x s u'
            rate.copy_(inner.addcmul_(inner, gate, value=-1).add_(gate))
