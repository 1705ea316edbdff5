"""Large weights stepped by the gradients of some of their rows at a time.

While `optim.stepping_in_backward` is in force, each weight carries an object that steps some of its
rows. A backward pass whose gradient is larger than what it is formed of hands it over part by part,
and the whole of it never exists.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

ATTRIBUTE = "row_steps"  # of a weight, where it may be stepped by its rows
ROWS_AT_ONCE = 1024  # of a weight; a multiple of 16, so that no number is computed otherwise

Parts = Iterator[tuple[slice, Tensor]]  # rows of a weight, and the gradient on them


class RowSteps(Protocol):
    """Steps one weight."""

    def __call__(self, rows: slice, gradient: Tensor) -> None:
        """Step some rows by their gradient, of the weight's type."""

    def done(self) -> None:
        """Every row was stepped once."""


def row_steps_of(weight: Tensor) -> RowSteps | None:
    """What steps the rows of `weight` now; None where its gradient has to be whole."""
    return getattr(weight, ATTRIBUTE, None)


def step_or_join(weight: Tensor, parts: Parts) -> Tensor | None:
    """Step `weight` by the parts of its gradient, or give this as a whole where it has to be."""
    steps = row_steps_of(weight)
    if steps is None:
        return joined(weight.shape, parts)
    for rows, gradient in parts:
        steps(rows, gradient)
    steps.done()
    return None


def joined(shape: torch.Size, parts: Parts) -> Tensor:
    """The gradient (V, W) whose parts these are."""
    whole = None
    for rows, gradient in parts:
        whole = gradient.new_empty(shape) if whole is None else whole
        whole[rows] = gradient
    return whole


def rows_of(count: int) -> Iterator[slice]:
    """The rows of a weight with `count` of them, some at a time."""
    for start in range(0, count, ROWS_AT_ONCE):
        yield slice(start, min(count, start + ROWS_AT_ONCE))
