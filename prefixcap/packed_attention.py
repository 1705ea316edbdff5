"""Attention over packed rows, between lists of vectors that leave out empty places.

Vectors go straight from the list to where a product of all rows and heads wants them, and back.
Softmax is in float32: PyTorch's for bfloat16 is slow on rows of less than 32 numbers
(benchmarks/step_parts.py has the times of both ways).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from prefixcap.packed_rows import PackedRows

VECTOR = 32  # numbers in bfloat16 that a processor takes at once


class Layout:
    """Where the K filled places of rows (R, S) lie, and what they see there.

    Attributes:
        shape: R, S.
        places: (K,) int64, the filled places, flat in (R, S).
        of_place: (R * S,) int64, which of the K each place holds; 0 where it is empty.
        bias: (R, 1, S, S) or (S, S), 0 where a place is seen and far below 0 where not.
        heads: of the attention.
        to_rows: (3 * R * H * S,) int64, where in (K, 3, H) each head's queries, keys and values
            lie; those of the first place where one is empty.
        filled: (K * H,) int64, `cells` of all filled places.
    """

    def __init__(self, rows: PackedRows, dtype: torch.dtype, heads: int) -> None:
        self.shape, self.heads, self.places = rows.position_ids.shape, heads, rows.places
        count, length = self.shape
        device = rows.places.device
        self.of_place = torch.zeros(count * length, dtype=torch.int64, device=device)
        self.of_place[rows.places] = torch.arange(len(rows.places), device=device)
        visible = rows.visible
        if visible is None:
            visible = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        exact = torch.promote_types(dtype, torch.float32)
        # half the lowest number stays finite when a score is added to it
        unseen = torch.finfo(exact).min / 2
        self.bias = torch.zeros(visible.shape, dtype=exact, device=device)
        self.bias.masked_fill_(~visible, unseen)
        part, row, head, place = torch.meshgrid(
            *(torch.arange(n, device=device) for n in (3, count, heads, length)), indexing="ij"
        )
        held = self.of_place[row * length + place]
        self.to_rows = ((held * 3 + part) * heads + head).flatten()  # (3 * R * H * S,)
        self.filled = self.cells(rows.places)
        parts = torch.arange(3, device=device)[None, :, None] * (count * heads * length)
        self.from_rows = (parts + self.filled.view(-1, 1, heads)).flatten()  # (K * 3 * H,)

    def cells(self, places: Tensor) -> Tensor:
        """Where the heads' vectors of flat places (U,) lie in (R, H, S), (U * H,)."""
        length = self.shape[1]
        heads = torch.arange(self.heads, device=places.device)
        first = places // length * (self.heads * length) + places % length
        return (first[:, None] + heads * length).flatten()


class Attention(torch.autograd.Function):
    """Queries, keys and values of K places to mixed values of U places."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, layout: Layout, wanted: Tensor, scale: float) -> Tensor:
        """Mixed values (U, W).

        Args:
            qkv: (K, 3W) float, queries before keys before values, heads within.
            layout: where the K places lie.
            wanted: (U * H,) int64, the `cells` of the places that are wanted.
            scale: what scores are multiplied by.
        """
        count, length = layout.shape
        width = qkv.shape[1] // (3 * layout.heads)
        parts = qkv.view(-1, width).index_select(0, layout.to_rows)
        queries, keys, values = parts.view(3, -1, length, width)  # (R * H, S, d) each
        scores = torch.bmm(queries, keys.mT).view(count, -1, length, length)  # (R, H, S, S)
        weights = torch.add(layout.bias, scores, alpha=scale).softmax(dim=-1)
        weights = weights.to(qkv.dtype).view_as(scores).flatten(0, 1)  # (R * H, S, S)
        ctx.save_for_backward(parts, weights, wanted)
        ctx.layout, ctx.scale = layout, scale
        mixed = torch.bmm(weights, values).flatten(0, 1)  # (R * H * S, d)
        return mixed.index_select(0, wanted).view(-1, layout.heads * width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Gradient on `qkv`; an empty place is seen by none and wanted by none, so it has none."""
        parts, weights, wanted = ctx.saved_tensors
        length, width = weights.shape[1], parts.shape[1]
        queries, keys, values = parts.view(3, -1, length, width)
        mixed = parts.new_zeros(len(parts) // 3, width)
        mixed = mixed.index_copy_(0, wanted, gradient.reshape(-1, width)).view_as(values)
        found = torch.empty_like(parts).view(3, -1, length, width)
        torch.bmm(weights.mT, mixed, out=found[2])
        scores = _through_softmax(torch.bmm(mixed, values.mT), weights).mul_(ctx.scale)
        torch.bmm(scores, keys, out=found[0])
        torch.bmm(scores.mT, queries, out=found[1])
        back = found.view(-1, width).index_select(0, ctx.layout.from_rows)
        return back.view(-1, 3 * ctx.layout.heads * width), None, None, None


def _through_softmax(gradient: Tensor, weights: Tensor) -> Tensor:
    """Gradient on scores (R * H, S, S) from that on their softmax `weights`."""
    dtype = weights.dtype
    if dtype is torch.bfloat16 and weights.shape[-1] < VECTOR:
        gradient, weights = gradient.float(), weights.float()
    return torch._softmax_backward_data(gradient, weights, -1, weights.dtype).to(dtype)
