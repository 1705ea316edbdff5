"""A tied output layer's gradient, formed where that of the word vectors is."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from prefixcap.row_steps import Parts, step_or_join


class LateGradient:
    """The loss's gradient on its weight, formed once `WordVectors` of that weight has its own.

    Between the two lies the backward pass of all layers, with their activations in memory. A
    gradient for every word is as large as many of them, what it is formed of is a third of it.
    """

    def __init__(self) -> None:
        self._form: Callable[[], Parts] | None = None

    def put(self, form: Callable[[], Parts]) -> None:
        """Take over a gradient that `form` makes."""
        self._form = form

    def take(self, weight: Tensor) -> Parts:
        """The gradient (V, W) in parts of its rows, 0 where the loss has none."""
        form, self._form = self._form, None
        return iter([(slice(0, len(weight)), torch.zeros_like(weight))]) if form is None else form()


class WordVectors(torch.autograd.Function):
    """Rows of a weight (V, W) that a loss with a late gradient has as its output layer."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, late: LateGradient) -> Tensor:
        """Vectors (..., W) of `ids` (...) int64."""
        ctx.save_for_backward(ids)
        ctx.weight, ctx.late = weight, late
        return weight[ids]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient on the weight; None where it was stepped by its parts."""
        ids, own = ctx.saved_tensors[0].flatten(), gradient.flatten(0, -2)  # (n,), (n, W)
        weight = ctx.weight
        parts = ((part, with_rows(f, part, ids, own)) for part, f in ctx.late.take(weight))
        parts = ((part, found.to(weight.dtype)) for part, found in parts)
        return step_or_join(weight, parts), None, None


def with_rows(found: Tensor, part: slice, ids: Tensor, rows: Tensor) -> Tensor:
    """`found` (part, W), with those of the `rows` (n, W) added whose `ids` are in that part."""
    here = (ids >= part.start) & (ids < part.stop)
    return found.index_add_(0, ids[here] - part.start, rows[here].to(found.dtype))
