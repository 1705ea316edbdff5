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

from prefixcap.gpt2_weights import TANH_GELU
from prefixcap.late_gradient import LateGradient, WordVectors
from prefixcap.packed_attention import Attention, Layout
from prefixcap.packed_rows import PackedRows
from prefixcap.products import TrainingLinear
from prefixcap.tanh_gelu import tanh_gelu_


class GPT2Rows:
    """The layers of a GPT-2 whose weights may be trained or frozen."""

    def __init__(self, lm: GPT2LMHeadModel) -> None:
        self.lm = lm
        self.blocks = [_Block(block) for block in lm.transformer.h]

    def __call__(
        self, prefix: Tensor, rows: PackedRows, chosen: Tensor, late: LateGradient
    ) -> Tensor:
        """Outputs (U, lm_dim) at chosen places, before the vocabulary.

        Args:
            prefix: (R, P, lm_dim) float, the prefix that opens each row.
            rows: the captions.
            chosen: (U,) int64, flat places in (R, P + L), each once.
            late: gradient on the word vectors that is to be added to these rows' own.
        """
        transformer, device = self.lm.transformer, prefix.device.type
        weights = transformer.wte.weight.dtype
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else weights
        with torch.autocast(device, enabled=False):
            words = WordVectors.apply(transformer.wte.weight, rows.ids, late)  # (R, L, W)
            inputs = torch.cat([prefix.to(weights), words], dim=1)
            hidden = _Chosen.apply(inputs.flatten(0, 1), rows.places)  # (K, W)
            hidden = hidden + transformer.wpe(rows.position_ids.flatten()[rows.places])
            hidden = transformer.drop(hidden)
            layout = Layout(rows, dtype, self.lm.config.n_head)
            for block in self.blocks[:-1]:
                hidden = block(hidden, layout, dtype)
            return transformer.ln_f(self.blocks[-1](hidden, layout, dtype, chosen))


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
        name = block.attn.config.activation_function
        self.activation = tanh_gelu_ if name in TANH_GELU else block.mlp.act

    def __call__(
        self, hidden: Tensor, layout: Layout, dtype: torch.dtype, kept: Tensor | None = None
    ) -> Tensor:
        """Hidden states (K, W) after the block, or only those at flat places `kept` (U,)."""
        attention, mlp = self.block.attn, self.block.mlp
        qkv = self.qkv(self.block.ln_1(hidden), dtype)  # (K, 3W)
        if kept is not None:
            hidden = _Chosen.apply(hidden, layout.of_place[kept])
        mixed = self._attend(qkv, layout, layout.places if kept is None else kept)
        hidden = hidden + attention.resid_dropout(self.out(mixed, dtype))
        inner = self.activation(self.up(self.block.ln_2(hidden), dtype))  # (K, 4W)
        return hidden + mlp.dropout(self.down(inner, dtype))

    def _attend(self, qkv: Tensor, layout: Layout, places: Tensor) -> Tensor:
        """Mixed values (U, W) at flat places (U,), of queries, keys and values (K, 3W)."""
        attention = self.block.attn
        if not (attention.training and attention.attn_dropout.p):
            wanted = layout.filled if places is layout.places else layout.cells(places)
            return Attention.apply(qkv, layout, wanted, attention.scaling)
        rows = qkv[layout.of_place].view(*layout.shape, 3, attention.num_heads, -1)
        queries, keys, values = rows.permute(2, 0, 3, 1, 4)  # (R, H, S, d) each
        scores = (queries * attention.scaling) @ keys.transpose(2, 3)
        weights = (scores + layout.bias).softmax(dim=-1).to(qkv.dtype)  # (R, H, S, S)
        mixed = (attention.attn_dropout(weights) @ values).transpose(1, 2)  # (R, S, H, d)
        return mixed.flatten(2).flatten(0, 1)[places]
