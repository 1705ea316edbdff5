"""Matrix products for training: float32 through oneDNN, and linear layers with their gradients.

PyTorch multiplies float32 on a CPU through MKL, which is slow on AMD processors. oneDNN is taken
where a self-check shows that it keeps float32's accuracy (benchmarks/README.md has the numbers).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from prefixcap.packed_linear import Linear, PackedLinear, can_pack


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b (n, out) of rows (n, in) by a weight (out, in), of any strides; no gradient."""
    on_cpu = x.device.type == "cpu" and x.numel() > 0
    if on_cpu and x.dtype is torch.float32 and can_pack(torch.float32):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


class TrainingLinear:
    """Rows (n, in) through a layer to (n, out), in a given type, with the gradients that it wants.

    A frozen layer that is used in a lower precision than its own is kept in it, packed, for both
    directions; the copies are made again once the weights have changed.
    """

    def __init__(self, layer: nn.Linear | Conv1D) -> None:
        self.layer = layer
        self._packed: tuple[Linear, Linear] | None = None
        self._packed_from: tuple[object, ...] = ()

    def __call__(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """(n, out) of type `dtype`, in which the products are computed."""
        weight, bias = self.layer.weight, self.layer.bias
        transposed = isinstance(self.layer, Conv1D)  # it stores (in, out)
        frozen = not weight.requires_grad and (bias is None or not bias.requires_grad)
        if frozen and dtype is torch.bfloat16 and weight.device.type == "cpu" and can_pack(dtype):
            return _FrozenProduct.apply(x, *self._copies(dtype, transposed))
        return _Product.apply(x, weight, bias, transposed, dtype)

    def __getstate__(self) -> dict[str, object]:
        """State to copy or pickle: without the packed copies, which are made anew."""
        return {**self.__dict__, "_packed": None, "_packed_from": ()}

    def _copies(self, dtype: torch.dtype, transposed: bool) -> tuple[Linear, Linear]:
        """The layer as it is now, and its transpose without bias."""
        parts = [self.layer.weight, self.layer.bias]
        seen = tuple((t.data_ptr(), t._version) for t in parts if t is not None)
        if self._packed is None or seen != self._packed_from:
            weight, bias = (None if t is None else t.detach().to(dtype) for t in parts)
            weight = weight.t() if transposed else weight
            self._packed = PackedLinear(weight, bias), PackedLinear(weight.t(), None)
            self._packed_from = seen
        return self._packed


class FastLinear(nn.Linear):
    """nn.Linear whose products, where a gradient is wanted on a CPU, are those of `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., out) from (..., in); under autocast in its type."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else self.weight.dtype
        rows = x.reshape(-1, self.in_features)  # (n, in)
        product = _Product.apply(rows, self.weight, self.bias, False, dtype)  # (n, out)
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


class _Product(torch.autograd.Function):
    """x W^T + b with x (n, in) and W (out, in), or (in, out) where `transposed`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        transposed: bool,
        dtype: torch.dtype,
    ) -> Tensor:
        inputs, matrix = x.to(dtype), weight.to(dtype)
        # not its copy in another type, which would take half as much again until the backward pass
        ctx.save_for_backward(inputs, weight)
        ctx.transposed, ctx.dtypes = transposed, (x.dtype, weight.dtype)
        ctx.bias_dtype = None if bias is None else bias.dtype
        added = None if bias is None else bias.to(dtype)
        return linear(inputs, matrix.t() if transposed else matrix, added)

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
            pair = (inputs, gradient) if ctx.transposed else (gradient, inputs)
            to_weight = linear(pair[0].t(), pair[1].t()).to(ctx.dtypes[1])
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum(dim=0, dtype=ctx.bias_dtype)
        return to_x, to_weight, to_bias, None, None
