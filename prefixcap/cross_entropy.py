"""Cross-entropy of a linear layer's outputs, without ever holding all of them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS_AT_ONCE = 256  # rows of logits in memory: 256 x 50,257 float32 are 51 MB


@dataclass(frozen=True)
class Targets:
    """What N rows of logits should predict.

    Attributes:
        ids: (N,) int64, all in 0..V-1.
        weights: (N,) float32, what each row's cross-entropy is multiplied by; may be negative, and
            get no gradient. None: all 1.
        smoothing: share of the target's probability spread evenly over the vocabulary
            (Szegedy et al. 2016, section 7).
    """

    ids: Tensor
    weights: Tensor | None = None
    smoothing: float = 0.0

    def part(self, rows: slice) -> "Targets":
        """The targets of some rows."""
        weights = None if self.weights is None else self.weights[rows]
        return Targets(self.ids[rows], weights, self.smoothing)


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Targets,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Sum of the cross-entropies of `hidden @ weight.T + bias` against `targets`, float32 scalar.

    Args:
        hidden: (N, W) float.
        weight: (V, W) float.
        bias: (V,) float, or None.
        targets: of the N rows.
        dtype: of the matrix products; softmax and sums are float32 always.
    """
    wants_gradient = torch.is_grad_enabled()
    return _ChunkedCrossEntropy.apply(hidden, weight, bias, targets, (dtype, wants_gradient))


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Forms each chunk's gradient while its logits are there; the backward pass only scales it.

    So nothing is computed twice, and nothing of size (N, V) is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Targets,
        options: tuple[torch.dtype, bool],
    ) -> Tensor:
        dtype, wants_gradient = options
        grads = _Gradients(*(wants_gradient and needed for needed in ctx.needs_input_grad[:3]))
        total = hidden.new_zeros((), dtype=torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(dtype)
            for start in range(0, len(hidden), ROWS_AT_ONCE):
                rows = slice(start, start + ROWS_AT_ONCE)
                inputs = hidden[rows].to(dtype)
                logits = (inputs @ matrix.T).float()  # (rows, V)
                if bias is not None:
                    logits += bias
                loss, gradient = _loss_and_gradient(logits, targets.part(rows), grads.wanted)
                total += loss
                if gradient is not None:
                    grads.add(gradient.to(dtype), inputs, matrix)
        ctx.gradients = grads
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        grads, ctx.gradients = ctx.gradients, None
        if grads is None:
            raise RuntimeError("chunked_cross_entropy: backward a second time; call it again first")
        return (*grads.scaled(scale), None, None)


class _Gradients:
    """Gradients on hidden, weight and bias, collected chunk by chunk in float32."""

    def __init__(self, hidden: bool, weight: bool, bias: bool) -> None:
        self.hidden_wanted, self.weight_wanted, self.bias_wanted = hidden, weight, bias
        self.wanted = hidden or weight or bias
        self.hidden: list[Tensor] = []
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None

    def add(self, gradient: Tensor, inputs: Tensor, matrix: Tensor) -> None:
        """Carry on the `gradient` (n, V) of the logits `inputs` (n, W) @ `matrix` (V, W).T."""
        if self.hidden_wanted:
            self.hidden.append((gradient @ matrix).float())  # (n, W)
        if self.weight_wanted:
            part = gradient.T @ inputs  # (V, W)
            self.weight = part.float() if self.weight is None else self.weight.add_(part)
        if self.bias_wanted:
            part = gradient.sum(dim=0, dtype=torch.float32)  # (V,)
            self.bias = part if self.bias is None else self.bias.add_(part)

    def scaled(self, scale: Tensor) -> list[Tensor | None]:
        """The gradients times `scale`, in their own memory: that of the weight is (V, W)."""
        hidden = torch.cat(self.hidden) if self.hidden else None  # (N, W)
        return [None if g is None else g.mul_(scale) for g in (hidden, self.weight, self.bias)]


def _loss_and_gradient(
    logits: Tensor, targets: Targets, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Summed loss of `logits` (n, V) float32, and its gradient on them, in their own memory."""
    ids, weights, smoothing = targets.ids, targets.weights, targets.smoothing
    normaliser = logits.logsumexp(dim=-1)  # (n,)
    picked = logits.gather(1, ids[:, None]).squeeze(1)  # (n,)
    loss = normaliser - (1 - smoothing) * picked
    if smoothing:
        loss = loss - smoothing * logits.mean(dim=-1)
    if weights is not None:
        loss = loss * weights
    if not wanted:
        return loss.sum(), None
    gradient = logits.sub_(normaliser[:, None]).exp_()  # softmax
    if smoothing:
        gradient -= smoothing / logits.shape[1]
    gradient[torch.arange(len(ids), device=ids.device), ids] -= 1 - smoothing
    if weights is not None:
        gradient *= weights[:, None]
    return loss.sum(), gradient
