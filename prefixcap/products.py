"""Matrix products for training: float32 through oneDNN, and linear layers with their gradients.

PyTorch multiplies float32 on a CPU through MKL. It makes no use of AVX-512 on processors that are
not Intel's, where oneDNN is twice as fast; on Intel's, and on those that have no AVX-512, it is the
faster one (benchmarks/README.md has the numbers). oneDNN is taken where a self-check shows that it
keeps float32's accuracy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from prefixcap.packed_linear import Linear, PackedLinear, Remade, can_pack
from prefixcap.row_steps import row_steps_of, rows_of, step_or_join

# Numbers in a large weight: no copy of it waits for the backward pass, and it is stepped by rows.
LARGE = 1 << 22
# Rows up to which a weight's gradient is faster in float32: one in bfloat16 has to be written, read
# and converted (benchmarks/step_parts.py has the times of both). So is a large weight's product
# with as few, whose copy in bfloat16 would be the largest block of memory of the step.
FEW = 32


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b (n, out) of rows (n, in) by a weight (out, in), of any strides; no gradient."""
    # in bfloat16 PyTorch has oneDNN multiply too, but first fills the output with the bias
    gains = bias is not None if x.dtype is torch.bfloat16 else not _mkl_is_faster()
    if gains and x.device.type == "cpu" and x.numel() > 0 and can_pack(x.dtype):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


@cache
def _mkl_is_faster() -> bool:
    """Whether MKL multiplies float32 faster than oneDNN here; told by the processor, not by timing.

    A timing might come out otherwise after a stop, and a run that goes on has to end with the bits
    of one that was never stopped.
    """
    if not torch.backends.mkl.is_available():
        return False
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        return True
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:  # no Linux
        return False
    return "GenuineIntel" in described


class TypedWeight:
    """A weight in another type, kept while it is frozen."""

    def __init__(self) -> None:
        self._copy = Remade()

    def __call__(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        """`weight` in `dtype`, without gradient; itself where that is its own."""
        if weight.requires_grad or weight.dtype is dtype:
            return weight.detach().to(dtype)
        return self._copy(lambda: weight.detach().to(dtype), weight, key=dtype)


class TrainingLinear:
    """Rows (n, in) through a layer to (n, out), in a given type, with the gradients that it wants.

    A frozen layer that is used in a lower precision than its own is kept in it, packed, for both
    directions; the copies are made again once the weights have changed.
    """

    def __init__(self, layer: nn.Linear | Conv1D) -> None:
        self.layer = layer
        self._packed = Remade()

    def __call__(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """(n, out) of type `dtype`, in which the products are computed."""
        weight, bias = self.layer.weight, self.layer.bias
        transposed = isinstance(self.layer, Conv1D)  # it stores (in, out)
        frozen = not weight.requires_grad and (bias is None or not bias.requires_grad)
        if frozen and dtype is torch.bfloat16 and weight.device.type == "cpu" and can_pack(dtype):
            return _FrozenProduct.apply(x, *self._copies(dtype, transposed))
        return _Product.apply(x, weight, bias, _How(dtype, transposed, keeps_copy=False))

    def _copies(self, dtype: torch.dtype, transposed: bool) -> tuple[Linear, Linear]:
        """The layer as it is now, and its transpose without bias."""
        weight, bias = self.layer.weight, self.layer.bias
        make = partial(_both_ways, weight, bias, dtype, transposed)
        return self._packed(make, weight, bias, key=dtype)


def _both_ways(
    weight: Tensor, bias: Tensor | None, dtype: torch.dtype, transposed: bool
) -> tuple[Linear, Linear]:
    """A layer packed in `dtype`, and its transpose without bias; a weight is (in, out) where so."""
    weight, bias = (None if t is None else t.detach().to(dtype) for t in (weight, bias))
    weight = weight.t() if transposed else weight
    return PackedLinear(weight, bias), PackedLinear(weight.t(), None)


class FastLinear(nn.Linear):
    """nn.Linear whose products, where a gradient is wanted on a CPU, are those of `linear`.

    Of a large weight and few rows they are float32 under autocast too.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., out) from (..., in); under autocast in its type."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else self.weight.dtype
        rows = x.reshape(-1, self.in_features)  # (n, in)
        is_large = self.weight.numel() > LARGE
        inner = self.weight.dtype if is_large and len(rows) <= FEW else dtype
        how = _How(inner, transposed=False, keeps_copy=not is_large)
        with torch.autocast("cpu", enabled=False):  # which would choose the type itself
            product = _Product.apply(rows, self.weight, self.bias, how).to(dtype)  # (n, out)
        return product.view(*x.shape[:-1], self.out_features)


class _FrozenProduct(torch.autograd.Function):
    """A packed layer forward, its packed transpose backward."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        layer: Callable[[Tensor], Tensor],
        transpose: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.transpose, ctx.dtype = transpose, x.dtype
        return layer(x.to(layer.weight.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.transpose(gradient.contiguous()).to(ctx.dtype), None, None


@dataclass(frozen=True)
class _How:
    """How a product is computed.

    Attributes:
        dtype: the type it is computed in.
        transposed: the weight is (in, out).
        keeps_copy: a copy of the weight in that type is kept for the backward pass.
    """

    dtype: torch.dtype
    transposed: bool
    keeps_copy: bool


class _Product(torch.autograd.Function):
    """x W^T + b with x (n, in) and W (out, in), or (in, out) where it is transposed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: _How) -> Tensor:
        inputs, matrix = x.to(how.dtype), weight.to(how.dtype)
        ctx.save_for_backward(inputs, matrix if how.keeps_copy else weight)
        ctx.weight = weight
        ctx.transposed, ctx.dtypes = how.transposed, (x.dtype, weight.dtype)
        ctx.bias_dtype = None if bias is None else bias.dtype
        added = None if bias is None else bias.to(how.dtype)
        return linear(inputs, matrix.t() if how.transposed else matrix, added)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        gradient = gradient.to(inputs.dtype).contiguous()  # (n, out)
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            matrix = weight.to(inputs.dtype)
            to_x = linear(gradient, matrix if ctx.transposed else matrix.t()).to(ctx.dtypes[0])
        if ctx.needs_input_grad[1]:
            first, second = (inputs, gradient) if ctx.transposed else (gradient, inputs)
            to_weight = _to_weight(ctx.weight, first, second)
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum(dim=0, dtype=ctx.bias_dtype)
        return to_x, to_weight, to_bias, None


def _to_weight(weight: Tensor, first: Tensor, second: Tensor) -> Tensor | None:
    """The gradient first^T second on `weight` (a, b), of rows (n, a) and (n, b) as multiplied.

    Returns:
        None where the weight was stepped by it, row by row.
    """
    dtype, is_large = weight.dtype, weight.numel() > LARGE
    if len(first) <= FEW and first.device.type == "cpu" and dtype is torch.float32:
        first, second = first.to(dtype), second.to(dtype)
        if not is_large:
            return linear(first.t(), second.t())
        products = ((rows, linear(first[:, rows].t(), second.t())) for rows in rows_of(len(weight)))
        return step_or_join(weight, products)
    # faster in bf16, with the copy, than from the transpose (benchmarks/step_parts.py)
    found = linear(first.t().contiguous(), second.t())
    if not is_large or row_steps_of(weight) is None:
        return found.to(dtype)
    return step_or_join(weight, ((rows, found[rows].to(dtype)) for rows in rows_of(len(weight))))
