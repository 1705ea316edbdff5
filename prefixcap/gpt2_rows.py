"""GPT-2 over packed rows, for training: no product is spent on a place that holds nothing.

The linear layers see the filled places of all rows as one list of K vectors. Only the attention
lays them out in rows (R, S), and the last layer goes on with the places that predict a token.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.pytorch_utils import Conv1D

from prefixcap.packed_rows import PackedRows
from prefixcap.products import TrainingLinear


class GPT2Rows:
    """The layers of a GPT-2 whose weights may be trained or frozen."""

    def __init__(self, lm: GPT2LMHeadModel) -> None:
        self.lm = lm
        self.blocks = [_Block(block) for block in lm.transformer.h]

    def __call__(self, prefix: Tensor, rows: PackedRows, chosen: Tensor) -> Tensor:
        """Outputs (U, lm_dim) at chosen places, before the vocabulary.

        Args:
            prefix: (R, P, lm_dim) float, the prefix that opens each row.
            rows: the captions.
            chosen: (U,) int64, flat places in (R, P + L), each once.
        """
        transformer, device = self.lm.transformer, prefix.device.type
        weights = transformer.wte.weight.dtype
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else weights
        with torch.autocast(device, enabled=False):
            inputs = torch.cat([prefix.to(weights), transformer.wte(rows.ids)], dim=1)
            hidden = _Chosen.apply(inputs.flatten(0, 1), rows.places)  # (K, W)
            hidden = hidden + transformer.wpe(rows.position_ids.flatten()[rows.places])
            hidden = transformer.drop(hidden)
            layout = _Layout(rows, dtype)
            for block in self.blocks[:-1]:
                hidden = block(hidden, layout, dtype)
            last = layout.of_place[chosen]  # (U,)
            return transformer.ln_f(self.blocks[-1](hidden, layout, dtype, last))


def fits(lm: nn.Module) -> bool:
    """Whether `lm` is a GPT-2 on a CPU with nothing in it that this module leaves out.

    Adapters and sharded layers have other classes. On a GPU the fused attention of PyTorch is fast.
    """
    if type(lm) is not GPT2LMHeadModel or lm.device.type != "cpu":
        return False
    config = lm.config
    layers = [
        layer
        for block in lm.transformer.h
        if type(block) is GPT2Block
        for layer in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
        if type(layer) is Conv1D
    ]
    return len(layers) == 4 * config.n_layer and not (
        config.add_cross_attention or config.reorder_and_upcast_attn
    )


class _Layout:
    """Where the K filled places lie in rows (R, S), and what they see there."""

    def __init__(self, rows: PackedRows, dtype: torch.dtype) -> None:
        self.shape = rows.position_ids.shape  # R, S
        self.places = rows.places
        count, length = self.shape
        device = rows.places.device
        self.of_place = torch.zeros(count * length, dtype=torch.int64, device=device)  # 0..K-1
        self.of_place[rows.places] = torch.arange(len(rows.places), device=device)
        visible = rows.visible
        if visible is None:
            visible = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        self.bias = torch.zeros(visible.shape, dtype=dtype, device=device)
        # half the lowest number stays finite when a score is added to it
        self.bias.masked_fill_(~visible, torch.finfo(dtype).min / 2)

    def spread(self, filled: Tensor) -> Tensor:
        """Rows (R, S, W) of the vectors (K, W), 0 where a place is empty."""
        grid = filled.new_zeros(len(self.of_place), filled.shape[1])
        return grid.index_copy(0, self.places, filled).unflatten(0, self.shape)


class _Chosen(torch.autograd.Function):
    """Chosen rows of a matrix, each once; so the gradient is a copy, where PyTorch would add."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, chosen: Tensor) -> Tensor:
        ctx.save_for_backward(chosen)
        ctx.shape = matrix.shape
        return matrix.index_select(0, chosen)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        [chosen] = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_copy_(0, chosen, gradient), None


class _Block:
    """One transformer block."""

    def __init__(self, block: GPT2Block) -> None:
        self.block = block
        self.qkv = TrainingLinear(block.attn.c_attn)
        self.out = TrainingLinear(block.attn.c_proj)
        self.up = TrainingLinear(block.mlp.c_fc)
        self.down = TrainingLinear(block.mlp.c_proj)

    def __call__(
        self, hidden: Tensor, layout: _Layout, dtype: torch.dtype, kept: Tensor | None = None
    ) -> Tensor:
        """Hidden states (K, W) after the block, or only those `kept` (U,) of them."""
        attention, mlp = self.block.attn, self.block.mlp
        mixed = self._attend(self.qkv(self.block.ln_1(hidden), dtype), layout)  # (R * S, W)
        if kept is None:
            mixed = _Chosen.apply(mixed, layout.places)
        else:
            mixed = _Chosen.apply(mixed, layout.places[kept])
            hidden = _Chosen.apply(hidden, kept)
        hidden = hidden + attention.resid_dropout(self.out(mixed, dtype))
        inner = mlp.act(self.up(self.block.ln_2(hidden), dtype))  # (K, 4W)
        return hidden + mlp.dropout(self.down(inner, dtype))

    def _attend(self, qkv: Tensor, layout: _Layout) -> Tensor:
        """Mixed values (R * S, W) of queries, keys and values (K, 3W)."""
        attention = self.block.attn
        rows = layout.spread(qkv).unflatten(-1, (3, attention.num_heads, -1))  # (R, S, 3, H, d)
        queries, keys, values = rows.permute(2, 0, 3, 1, 4)  # (R, H, S, d) each
        scores = (queries * attention.scaling) @ keys.transpose(2, 3) + layout.bias
        weights = attention.attn_dropout(scores.softmax(dim=-1))  # (R, H, S, S)
        return (weights @ values).transpose(1, 2).flatten(2).flatten(0, 1)  # (R * S, W)
