"""Cross-entropy of a linear layer's outputs, without ever holding all of them."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS_AT_ONCE = 128  # rows of logits in memory: 128 x 50,257 float32 are 26 MB


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    smoothing: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Sum of the cross-entropies of `hidden @ weight.T + bias` against `targets`, float32 scalar.

    Args:
        hidden: (N, W) float.
        weight: (V, W) float.
        bias: (V,) float, or None.
        targets: (N,) int64, all in 0..V-1.
        smoothing: share of the target's probability spread evenly over the vocabulary
            (Szegedy et al. 2016, section 7).
        dtype: of the matrix products; softmax and sums are float32 always.
    """
    wants_gradient = torch.is_grad_enabled()
    return _ChunkedCrossEntropy.apply(
        hidden, weight, bias, targets, (smoothing, dtype, wants_gradient)
    )


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
        targets: Tensor,
        options: tuple[float, torch.dtype, bool],
    ) -> Tensor:
        smoothing, dtype, wants_gradient = options
        wanted = [wants_gradient and needed for needed in ctx.needs_input_grad[:3]]
        grads = [
            torch.zeros_like(tensor, dtype=torch.float32) if needed else None
            for tensor, needed in zip((hidden, weight, bias), wanted, strict=True)
        ]
        total = hidden.new_zeros((), dtype=torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(dtype)
            for start in range(0, len(hidden), ROWS_AT_ONCE):
                rows = slice(start, start + ROWS_AT_ONCE)
                inputs = hidden[rows].to(dtype)
                logits = (inputs @ matrix.T).float()  # (rows, V)
                if bias is not None:
                    logits += bias
                loss, gradient = _loss_and_gradient(logits, targets[rows], smoothing, any(wanted))
                total += loss
                if gradient is not None:
                    _accumulate(grads, rows, gradient.to(dtype), inputs, matrix)
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        grads = (None if grad is None else grad * scale for grad in ctx.saved_tensors)
        return (*grads, None, None)


def _loss_and_gradient(
    logits: Tensor, targets: Tensor, smoothing: float, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Summed loss of `logits` (n, V) float32, and its gradient on them, in their own memory."""
    normaliser = logits.logsumexp(dim=-1)  # (n,)
    picked = logits.gather(1, targets[:, None]).squeeze(1)  # (n,)
    loss = normaliser - (1 - smoothing) * picked
    if smoothing:
        loss = loss - smoothing * logits.mean(dim=-1)
    if not wanted:
        return loss.sum(), None
    gradient = logits.sub_(normaliser[:, None]).exp_()  # softmax
    if smoothing:
        gradient -= smoothing / logits.shape[1]
    gradient[torch.arange(len(targets), device=targets.device), targets] -= 1 - smoothing
    return loss.sum(), gradient


def _accumulate(
    grads: list[Tensor | None], rows: slice, gradient: Tensor, inputs: Tensor, matrix: Tensor
) -> None:
    """Carry `gradient` (n, V), on the logits of `rows`, to hidden, weight and bias."""
    hidden, weight, bias = grads
    if hidden is not None:
        hidden[rows] = gradient @ matrix  # (n, W)
    if weight is not None:
        weight += gradient.T @ inputs  # (V, W)
    if bias is not None:
        bias += gradient.sum(dim=0)
