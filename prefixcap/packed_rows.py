"""Captions laid out behind their prefixes, in rows that a causal language model reads at once.

An image's captions can share its prefix in one row, [prefix, caption 1, caption 2, ...]: positions
restart after the prefix, and a block mask lets a caption see the prefix and itself only. Values and
gradients are those of one row per caption; only the repeated work on the prefix is gone.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from prefixcap.tokenizer import IGNORED

PREFIX = -2  # block number of prefix places; captions count from 0
PADDING = -1  # block number of places behind a row's last caption


@dataclass(frozen=True)
class PackedRows:
    """R rows of P + L places.

    Attributes:
        images: (R,) int64, the image whose prefix opens each row.
        ids: (R, L) int64, the tokens behind the prefix; 0 where a row is padded.
        position_ids: (R, P + L) int64; every caption of a row starts again at P.
        visible: (R, 1, P + L, P + L) bool, which places (last axis) each place sees; None where
            causal order says it all.
        places: (K,) int64, flat places in (R, P + L) that hold a prefix or a token, ascending.
        sources: (N,) int64, flat places in (R, P + L) whose output predicts a caption token.
        targets: (N,) int64, those tokens.
        weights: (N,) float32, the weight of each token's caption in the loss.
    """

    images: Tensor
    ids: Tensor
    position_ids: Tensor
    visible: Tensor | None
    places: Tensor
    sources: Tensor
    targets: Tensor
    weights: Tensor


def pack(
    ids: Tensor,
    image_rows: Tensor,
    prefix_length: int,
    *,
    shared: bool,
    weights: Tensor | None = None,
) -> PackedRows:
    """Rows of the captions `ids` (M, T) int64, right-padded with IGNORED, of `image_rows` (M,).

    The last token of a caption is predicted but predicts nothing, so it takes no place in a row;
    the first is predicted by the prefix's last place.

    Args:
        ids: the captions.
        image_rows: the image of each caption, ascending.
        prefix_length: P.
        shared: the captions of an image go into one row; else each has a row of its own.
        weights: (M,) float, one per caption; None: all 1.
    """
    images, row, first = _rows(image_rows, shared)
    is_target = ids != IGNORED  # (M, T)
    inputs = (is_target.sum(dim=1) - 1).clamp(min=0)  # (M,)
    before = inputs.cumsum(0) - inputs
    offsets = before - before[first][row]  # (M,) where a caption begins behind its prefix
    length = int((offsets + inputs).max()) if len(ids) else 0
    step = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)  # (M, T)
    is_input = step < inputs[:, None]
    cell = (row[:, None] * length + offsets[:, None] + step)[is_input]  # flat places in (R, L)
    shape = (len(images), length)
    blocks = torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)
    last = torch.where(step == 0, -1, offsets[:, None] + step - 1)  # place before each token
    sources = row[:, None] * (prefix_length + length) + prefix_length + last  # (M, T)
    if weights is None:
        weights = torch.ones(len(ids), device=ids.device)
    block = _filled(shape, PADDING, cell, blocks[is_input])  # (R, L)
    return PackedRows(
        images=images,
        ids=_filled(shape, 0, cell, ids[is_input]),
        position_ids=_positions(_filled(shape, 0, cell, step[is_input]), prefix_length),
        visible=_mask(block, prefix_length) if shared else None,
        places=F.pad(block != PADDING, (prefix_length, 0), value=True).flatten().nonzero()[:, 0],
        sources=sources[is_target],
        targets=ids[is_target],
        weights=weights.float()[:, None].expand_as(ids)[is_target],
    )


def _rows(image_rows: Tensor, shared: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Image of each row (R,), row of each caption (M,), first caption of each row (R,)."""
    if not shared:
        each = torch.arange(len(image_rows), device=image_rows.device)
        return image_rows, each, each
    images, row, counts = torch.unique_consecutive(
        image_rows, return_inverse=True, return_counts=True
    )
    return images, row, counts.cumsum(0) - counts


def _filled(shape: tuple[int, int], empty: int, cells: Tensor, values: Tensor) -> Tensor:
    """Table of `shape` int64 that holds `values` in the flat `cells` and `empty` elsewhere."""
    table = values.new_full((shape[0] * shape[1],), empty)
    table[cells] = values
    return table.view(shape)


def _positions(steps: Tensor, prefix_length: int) -> Tensor:
    """Positions (R, P + L) of rows whose places are the `steps` (R, L) of their captions."""
    prefix = torch.arange(prefix_length, device=steps.device).expand(len(steps), -1)
    return torch.cat([prefix, prefix_length + steps], dim=1)  # (R, P + L)


def _mask(blocks: Tensor, prefix_length: int) -> Tensor:
    """Mask (R, 1, P + L, P + L) bool: a place sees earlier places of its block and the prefix."""
    prefix = blocks.new_full((len(blocks), prefix_length), PREFIX)
    block = torch.cat([prefix, blocks], dim=1)  # (R, P + L)
    allowed = (block[:, :, None] == block[:, None, :]) | (block == PREFIX)[:, None, :]
    return allowed.tril()[:, None]  # (R, 1, P + L, P + L)
