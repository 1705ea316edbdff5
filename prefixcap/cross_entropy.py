"""Cross-entropy of a linear layer's outputs, without ever holding all of them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from prefixcap.products import linear

ROWS_AT_ONCE = 512  # rows of logits in memory: 512 x 50,257 bfloat16 are 51 MB
ROWS_IN_CACHE = 16  # rows of them turned into float32 probabilities at once: 3 MB


@dataclass(frozen=True)
class Taught:
    """What teachers expect, learned beside the tokens themselves (Hinton et al. 2015, section 2).

    Attributes:
        probabilities: (n, V) float, the teachers' for each row of logits; they get no gradient.
        share: of the loss that is the cross-entropy against them, 0 to 1.
    """

    probabilities: Tensor
    share: float


@dataclass(frozen=True)
class Targets:
    """What rows of logits should predict: N tokens, one or more for each row.

    Attributes:
        ids: (N,) int64, all in 0..V-1.
        rows: (N,) int64, the row of logits that predicts each.
        weights: (N,) float32, what each cross-entropy is multiplied by; may be negative, and get no
            gradient.
        smoothing: share of the target's probability spread evenly over the vocabulary
            (Szegedy et al. 2016, section 7).
        taught: what teachers expect; its share and the smoothing are taken off the target's.
    """

    ids: Tensor
    rows: Tensor
    weights: Tensor
    smoothing: float = 0.0
    taught: Taught | None = None

    def part(self, start: int, stop: int) -> "Targets":
        """The targets of the rows from `start` to before `stop`, counted from `start`."""
        here = (self.rows >= start) & (self.rows < stop)
        taught = self.taught and Taught(self.taught.probabilities[start:stop], self.taught.share)
        rows = self.rows[here] - start
        return Targets(self.ids[here], rows, self.weights[here], self.smoothing, taught)


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
        hidden: (n, W) float.
        weight: (V, W) float.
        bias: (V,) float, or None.
        targets: of the n rows.
        dtype: of the matrix products; softmax and sums are float32 at least.
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
        total = hidden.new_zeros((), dtype=_exact(dtype))
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(dtype)
            for start in range(0, len(hidden), ROWS_AT_ONCE):
                inputs = hidden[start : start + ROWS_AT_ONCE].to(dtype)
                logits = linear(inputs, matrix)  # (rows, V)
                chosen = targets.part(start, start + len(logits))
                total += _loss_of(logits, bias, chosen, grads.wanted)
                if grads.wanted:
                    grads.add(logits, inputs, matrix)
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
            self.hidden.append(linear(gradient, matrix.T).to(_exact(matrix.dtype)))  # (n, W)
        if self.weight_wanted:
            part = linear(gradient.T, inputs.T)  # (V, W)
            part = part.to(_exact(matrix.dtype)) if self.weight is None else part
            self.weight = part if self.weight is None else self.weight.add_(part)
        if self.bias_wanted:
            part = gradient.sum(dim=0, dtype=_exact(matrix.dtype))  # (V,)
            self.bias = part if self.bias is None else self.bias.add_(part)

    def scaled(self, scale: Tensor) -> list[Tensor | None]:
        """The gradients times `scale`, in their own memory: that of the weight is (V, W)."""
        hidden = torch.cat(self.hidden) if self.hidden else None  # (N, W)
        return [None if g is None else g.mul_(scale) for g in (hidden, self.weight, self.bias)]


def _exact(dtype: torch.dtype) -> torch.dtype:
    """Type of softmax and sums for products in `dtype`."""
    return torch.promote_types(dtype, torch.float32)


def _loss_of(logits: Tensor, bias: Tensor | None, targets: Targets, wanted: bool) -> Tensor:
    """Summed loss of `logits` + `bias` (n, V), whose gradient takes their place where `wanted`."""
    total = logits.new_zeros((), dtype=_exact(logits.dtype))
    for start in range(0, len(logits), ROWS_IN_CACHE):
        part = logits[start : start + ROWS_IN_CACHE]
        exact = part.to(total.dtype)
        exact = exact if bias is None else exact + bias
        loss, gradient = _loss_and_gradient(exact, targets.part(start, start + len(part)), wanted)
        total += loss
        if gradient is not None:
            part.copy_(gradient)
    return total


def _loss_and_gradient(
    logits: Tensor, targets: Targets, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Summed loss of `logits` (n, V), and its gradient on them."""
    ids, rows, smoothing, taught = targets.ids, targets.rows, targets.smoothing, targets.taught
    certain = 1 - smoothing - (taught.share if taught else 0)  # of a target's own probability
    weights = targets.weights.to(logits.dtype)
    probabilities = logits.softmax(dim=-1)  # (n, V)
    # the largest is at least 1 / V, so its logarithm is exact where others may be 0
    normaliser = logits.amax(dim=-1) - probabilities.amax(dim=-1).log()  # (n,)
    losses = normaliser[rows] - certain * logits[rows, ids]
    if smoothing:
        losses = losses - smoothing * logits.mean(dim=-1)[rows]
    if taught:
        expected = taught.share * taught.probabilities.to(logits.dtype)  # (n, V)
        losses = losses - (expected * logits).sum(dim=-1)[rows]
    total = losses @ weights
    if not wanted:
        return total, None
    weight = logits.new_zeros(len(logits)).index_add_(0, rows, weights)[:, None]  # (n, 1)
    gradient = probabilities.mul_(weight)
    if smoothing:
        gradient -= weight * (smoothing / logits.shape[1])
    if taught:
        gradient -= weight * expected
    gradient.index_put_((rows, ids), -certain * weights, accumulate=True)
    return total, gradient
