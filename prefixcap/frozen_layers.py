"""Layers of a frozen network in the form that a CPU computes fastest, under the same weights.

`hasten` swaps a vision transformer's layers; names and values of its weights stay. On one thread,
ViT-B/32 then takes half the time in float32 (benchmarks/encoder.py).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import QuickGELUActivation

from prefixcap.packed_linear import Linear, PackedLinear, can_pack

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
        self._packed: Linear | None = None
        self._packed_from: tuple[tuple[Tensor, int], ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        """(..., out) from (..., in), both of the weight's type."""
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not self._can_pack():
            return F.linear(x, self.weight, self.bias)
        if self._packed is None or not self._is_current():
            self._pack()
        return self._packed(x)

    def __getstate__(self) -> dict[str, object]:
        """State to copy or pickle: without the packed copy, which cannot be, and is made anew."""
        return {**self.__dict__, "_packed": None, "_packed_from": ()}

    def _pack(self) -> None:
        """Make the packed copy, and note what it was made from."""
        sources = [t.detach() for t in (self.weight, self.bias) if t is not None]
        self._packed = PackedLinear(sources[0], sources[1] if len(sources) > 1 else None)
        # Holding on to the sources keeps their addresses from being given to other tensors.
        self._packed_from = tuple((source, _version(source)) for source in sources)

    def _is_current(self) -> bool:
        """Whether weight and bias are still those, unchanged, that were packed."""
        return all(
            now.data_ptr() == then.data_ptr() and now.dtype == then.dtype and _version(now) == seen
            for now, (then, seen) in zip((self.weight, self.bias), self._packed_from, strict=False)
        )

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


def _version(weight: Tensor) -> int:
    """Count of in-place changes; tensors made in inference mode keep none, nor are they trained."""
    return 0 if weight.is_inference() else weight._version
