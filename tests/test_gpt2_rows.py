"""GPT-2 over packed rows against transformers' own forward pass over the same rows."""

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from prefixcap.gpt2_rows import GPT2Rows, fits
from prefixcap.late_gradient import LateGradient
from prefixcap.packed_loss import hidden_states
from prefixcap.packed_rows import pack
from prefixcap.tokenizer import IGNORED

SIZES = {"vocab_size": 47, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
WITHOUT_DROPOUT = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}


def gpt2(**settings) -> GPT2LMHeadModel:
    """A small GPT-2 whose outputs differ from place to place."""
    torch.manual_seed(0)
    lm = GPT2LMHeadModel(GPT2Config(**SIZES, **{**WITHOUT_DROPOUT, **settings}))
    for parameter in lm.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.15)
    return lm


def rows_and_prefix(shared):
    """Rows of five captions of two images, and their prefixes."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 47, (5, 7), generator=generator)
    ids[torch.arange(7) >= torch.tensor([4, 7, 2, 5, 1])[:, None]] = IGNORED
    rows = pack(ids, torch.tensor([0, 0, 0, 1, 1]), 3, shared=shared)
    prefix = torch.randn(2, 3, 32, generator=generator)
    return rows, prefix[rows.images].requires_grad_()


def outputs_and_gradients(lm, prefix, outputs):
    """Outputs at the chosen places, and gradients on the prefix and every layer's weights."""
    wanted = [prefix, *(p for p in lm.parameters() if p.requires_grad)]
    weigh = torch.linspace(-1, 1, outputs.numel()).view_as(outputs)
    return [outputs, *torch.autograd.grad((outputs * weigh).sum(), wanted)]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(
    "settings",
    [{}, {"scale_attn_by_inverse_layer_idx": True}, {"activation_function": "relu"}],
    ids=str,
)
def test_outputs_and_gradients_are_transformers(shared, frozen, settings):
    lm = gpt2(**settings).double().requires_grad_(not frozen)
    rows, prefix = rows_and_prefix(shared)
    prefix = prefix.detach().double().requires_grad_()
    chosen = rows.sources.unique()
    found = outputs_and_gradients(lm, prefix, GPT2Rows(lm)(prefix, rows, chosen, LateGradient()))
    plain = hidden_states(lm, prefix, rows).flatten(0, 1)[chosen]
    exact = outputs_and_gradients(lm, prefix, plain)
    for got, wanted in zip(found, exact, strict=True):
        assert (got - wanted).norm() <= 1e-12 * wanted.norm().clamp(min=1)


def test_no_linear_layer_sees_an_empty_place():
    lm = gpt2(activation_function="relu").requires_grad_(False)
    rows, prefix = rows_and_prefix(shared=False)
    seen = []
    for block in lm.transformer.h:
        block.mlp.act.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    GPT2Rows(lm)(prefix, rows, rows.sources.unique(), LateGradient())
    filled = 5 * 3 + 3 + 6 + 1 + 4 + 0  # prefixes, and tokens that are read
    assert seen == [filled, 4 + 7 + 2 + 5 + 1]


@pytest.mark.parametrize("kind", ["resid_pdrop", "attn_pdrop", "embd_pdrop"])
def test_dropout_acts_in_training_only(kind):
    lm = gpt2(**{kind: 0.5})
    rows, prefix = rows_and_prefix(shared=True)
    layers, chosen = GPT2Rows(lm), rows.sources.unique()
    assert not torch.equal(
        layers(prefix, rows, chosen, LateGradient()), layers(prefix, rows, chosen, LateGradient())
    )
    lm.eval()
    assert torch.equal(
        layers(prefix, rows, chosen, LateGradient()), layers(prefix, rows, chosen, LateGradient())
    )


class Adapter(nn.Module):
    """A layer in place of a Conv1D, as adapters are."""


def test_it_fits_plain_gpt2_only():
    assert fits(gpt2())
    assert not fits(gpt2(reorder_and_upcast_attn=True))
    adapted = gpt2()
    adapted.transformer.h[1].mlp.c_fc = Adapter()
    assert not fits(adapted)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    assert not fits(LlamaForCausalLM(LlamaConfig(vocab_size=47, intermediate_size=8, **sizes)))
