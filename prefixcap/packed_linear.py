"""Linear layers for inference, in the layout that the processor multiplies fastest.

On a CPU, oneDNN keeps a copy of the weights in the blocks of its matrix kernels. Without it, small
batches spend half their time on rearranging weights in bf16, and fp32 goes through MKL, which is
slow on AMD processors (benchmarks/README.md has the numbers).
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

T = TypeVar("T")
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


class Remade:
    """What was made of tensors, made again once these have changed, moved or been cast.

    It holds on to them, which keeps their addresses from being given to others.
    """

    def __init__(self) -> None:
        self._made: Any = None
        self._key: object = None
        self._sources: tuple[tuple[Tensor, int], ...] = ()

    def __call__(self, make: Callable[[], T], *sources: Tensor | None, key: object = None) -> T:
        """What `make` gives, called again only where `sources` or `key` are others than before."""
        present = [source.detach() for source in sources if source is not None]
        if self._made is None or key != self._key or not self._is_of(present):
            self._made, self._key = make(), key
            self._sources = tuple((source, _version(source)) for source in present)
        return self._made

    def _is_of(self, present: Sequence[Tensor]) -> bool:
        """Whether these are the tensors, unchanged, that it was made of."""
        return len(present) == len(self._sources) and all(
            now.data_ptr() == then.data_ptr() and now.dtype == then.dtype and _version(now) == seen
            for now, (then, seen) in zip(present, self._sources, strict=True)
        )

    def __getstate__(self) -> dict[str, object]:
        """State to copy or pickle: without what was made, which may be neither."""
        return {"_made": None, "_key": None, "_sources": ()}


def parameter_versions(module: nn.Module) -> list[tuple[int, int, torch.dtype]]:
    """Place, version counter and dtype of every parameter; every change in place counts it up.

    Equal lists mean that copies made of the weights are still those of `module`.
    """
    return [(p.data_ptr(), _version(p), p.dtype) for p in module.parameters()]


def _version(tensor: Tensor) -> int:
    """Count of in-place changes; tensors made in inference mode keep none, nor are they trained."""
    return 0 if tensor.is_inference() else tensor._version
