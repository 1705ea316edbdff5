"""Linear layers for inference, in the layout that the processor multiplies fastest.

On a CPU, oneDNN keeps a copy of the weights in the blocks of its matrix kernels. Without it, small
batches spend half their time on rearranging weights in bf16, and fp32 goes through MKL, which is
slow on AMD processors (benchmarks/README.md has the numbers).
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Linear = Callable[[Tensor], Tensor]
PROBE = 96  # rows and columns of the self-check; large enough for the blocked kernels
PROBE_TOLERANCE = 1e-5  # relative; true float32 is near 1e-7, TF32 and bf16 are above 1e-4


class PackedLinear:
    """x (..., in) to x W^T + b (..., out) from a oneDNN copy of W (out, in), with GELU if asked."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        self.bias = bias
        self.after = ("gelu", [], "tanh") if gelu else ("none", [], "")

    def __call__(self, x: Tensor) -> Tensor:
        """(..., out) in the dtype of x (..., in)."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *self.after)


class PlainLinear:
    """x (..., in) to x W^T + b (..., out) from W (out, in) itself, with GELU if asked."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        self.weight = weight
        self.bias = bias
        self.gelu = gelu

    def __call__(self, x: Tensor) -> Tensor:
        """(..., out) in the dtype of x (..., in)."""
        y = F.linear(x, self.weight, self.bias)
        return F.gelu(y, approximate="tanh") if self.gelu else y


def fast_linear(weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Linear:
    """The fastest form of a linear layer with weight (out, in) that keeps its dtype's accuracy."""
    packed = weight.device.type == "cpu" and can_pack(weight.dtype)
    kind = PackedLinear if packed else PlainLinear
    return kind(weight, bias, gelu=gelu)


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN's packed layers work here for `dtype`, and in true float32 for float32."""
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    if dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(PROBE, PROBE, generator=generator).to(dtype)
    weight = torch.randn(PROBE, PROBE, generator=generator).to(dtype)
    try:
        found = PackedLinear(weight, None)(x).double()
    except RuntimeError:  # a build of PyTorch without these kernels
        return False
    expected = x.double() @ weight.double().t()
    error = (found - expected).abs().max() / expected.abs().max()
    return error.item() < (PROBE_TOLERANCE if dtype is torch.float32 else 1e-2)


def parameter_versions(module: nn.Module) -> list[tuple[int, int, torch.dtype]]:
    """Place, version counter and dtype of every parameter; every change in place counts it up.

    Equal lists mean that copies made of the weights are still those of `module`.
    """
    found = module.parameters()
    return [(p.data_ptr(), 0 if p.is_inference() else p._version, p.dtype) for p in found]
