"""Layers of a frozen network in the form that a CPU computes fastest, under the same weights.

`hasten` swaps a vision transformer's layers; names and values of its weights stay. On one thread,
ViT-B/32 then takes half the time in float32 (benchmarks/encoder.py).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import QuickGELUActivation

from prefixcap.packed_linear import Linear, PackedLinear, Remade, can_pack

QUICK_GELU = 1.702  # Hendrycks and Gimpel 2016, section 2: GELU(x) is close to x sigmoid(1.702 x)


class FrozenLinear(nn.Module):
    """A linear layer that multiplies by a packed copy of its weight where that is allowed.

    The copy is made on the first call, and again when the weight has changed, moved or been cast.
    With gradients, under autocast or off the CPU it is a plain linear layer.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        self._packed = Remade()

    def forward(self, x: Tensor) -> Tensor:
        """(..., out) from (..., in), both of the weight's type."""
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not self._can_pack():
            return F.linear(x, self.weight, self.bias)
        return self._packed(self._pack, self.weight, self.bias)(x)

    def _pack(self) -> Linear:
        """The packed copy."""
        return PackedLinear(self.weight.detach(), None if self.bias is None else self.bias.detach())

    def _can_pack(self) -> bool:
        """Whether the weight is where packed products work, and exact."""
        return self.weight.device.type == "cpu" and can_pack(self.weight.dtype)


class FrozenQuickGelu(nn.Module):
    """CLIP's activation, x sigmoid(1.702 x), with one new tensor in place of three."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and type as x."""
        if torch.is_grad_enabled():
            return x * torch.sigmoid(QUICK_GELU * x)
        return torch.sigmoid_(QUICK_GELU * x).mul_(x)


def hasten(network: nn.Module) -> None:
    """Swap the layers of `network` that have a faster form, in place; its weights stay shared."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:  # a subclass may do more than multiply
                setattr(parent, name, FrozenLinear(child))
            elif type(child) is QuickGELUActivation:
                setattr(parent, name, FrozenQuickGelu())
