"""The weights of a GPT-2, arranged for stepping: fused, packed, the output layer centred."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from prefixcap.packed_linear import Linear, fast_linear, parameter_versions

TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")
HEAD_ROWS = 128  # rows of logits at a time: 13 MB in bf16, which stay in the cache until converted


@dataclass(frozen=True)
class LayerWeights:
    """One transformer block: `qkv` is the fused query, key and value layer."""

    norm_1: nn.LayerNorm
    qkv: Linear
    scale: float
    out: Linear
    norm_2: nn.LayerNorm
    up: Linear  # with its activation
    down: Linear

    @classmethod
    def of(cls, block: GPT2Block, activation: str) -> "LayerWeights":
        """The weights of a transformers block; its Conv1D layers store (in, out)."""
        attention, mlp = block.attn, block.mlp
        up = fast_linear(_weight(mlp.c_fc).t(), mlp.c_fc.bias, gelu=activation in TANH_GELU)
        return cls(
            norm_1=block.ln_1,
            qkv=fast_linear(_weight(attention.c_attn).t(), attention.c_attn.bias),
            scale=attention.scaling,
            out=fast_linear(_weight(attention.c_proj).t(), attention.c_proj.bias),
            norm_2=block.ln_2,
            up=up if activation in TANH_GELU else lambda x: mlp.act(up(x)),
            down=fast_linear(_weight(mlp.c_proj).t(), mlp.c_proj.bias),
        )


class OutputLayer:
    """Hidden states to logits in float32; in half precision, less a constant for each row.

    bf16 keeps eight bits. GPT-2's logits lie far from zero, and one of -100 would be rounded to
    half a unit. So the mean of the output vectors is taken out of the weights: it adds the same
    number to all logits of a row, which no probability depends on, and what is rounded is a
    logit's distance from their mean.
    """

    def __init__(self, weight: Tensor) -> None:
        self.vocabulary = len(weight)
        if weight.dtype is not torch.float32:
            exact = weight.float()
            weight = (exact - exact.mean(dim=0)).to(weight.dtype)
        self.linear = fast_linear(weight, None)

    def __call__(self, hidden: Tensor, logits: Tensor) -> None:
        """Write the logits of hidden states (N, D) into `logits` (N, V) float32."""
        for states, rows in zip(hidden.split(HEAD_ROWS), logits.split(HEAD_ROWS), strict=True):
            rows.copy_(self.linear(states))


class GPT2Weights:
    """All weights of a language model as they are now, and whether they still are."""

    def __init__(self, lm: GPT2LMHeadModel) -> None:
        transformer = lm.transformer
        activation = lm.config.activation_function
        self.tokens = transformer.wte.weight  # (V, D)
        self.positions = transformer.wpe.weight  # (positions, D)
        self.layers = [LayerWeights.of(block, activation) for block in transformer.h]
        self.norm = transformer.ln_f
        self.output = OutputLayer(lm.lm_head.weight)
        self.heads = lm.config.n_head
        self._seen = parameter_versions(lm)

    def are_those_of(self, lm: GPT2LMHeadModel) -> bool:
        """False once the language model was trained on, loaded anew, moved or converted."""
        return self._seen == parameter_versions(lm)


def _weight(layer: nn.Module) -> Tensor:
    """Weight (in, out) of a layer, with its LoRA adapter added where it has one."""
    if not hasattr(layer, "get_delta_weight"):
        return layer.weight
    return layer.weight + layer.get_delta_weight("default")
