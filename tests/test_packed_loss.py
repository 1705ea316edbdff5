"""Packed rows cost less and change nothing: the naive loss, written here, is the reference."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from prefixcap.errors import InputError
from prefixcap.packed_loss import abilities_of, packed_loss
from prefixcap.packed_rows import pack
from prefixcap.tokenizer import IGNORED

VOCABULARY, WIDTH, PREFIX_LENGTH = 47, 32, 3
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
GATED = {"intermediate_size": 48, "num_key_value_heads": 2}


def gpt2() -> PreTrainedModel:
    sizes = {"n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": 40}
    off = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes, **off))


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES, **GATED))


def gpt_neox() -> PreTrainedModel:
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, intermediate_size=48))


def opt() -> PreTrainedModel:
    return OPTForCausalLM(OPTConfig(**SIZES, ffn_dim=48, word_embed_proj_dim=WIDTH, dropout=0))


def gemma2() -> PreTrainedModel:
    """Its logits are capped, and its layers see through windows in turn."""
    config = Gemma2Config(**SIZES, **GATED, head_dim=8, sliding_window=20)
    return Gemma2ForCausalLM(config)


def bloom() -> PreTrainedModel:
    """It has no positions to be told: its attention counts distances itself (ALiBi)."""
    config = BloomConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, n_layer=2, n_head=4)
    return BloomForCausalLM(config)


ANY_LM = [gpt2, llama, gpt_neox, opt, gemma2, bloom]


def lively(build: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """A model whose logits differ from token to token."""
    torch.manual_seed(0)
    lm = build().eval()
    for parameter in lm.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return lm


def captions() -> tuple[Tensor, Tensor, Tensor]:
    """ids (M, T), image_rows (M,) and prefixes (B, P, W) that a gradient is wanted for."""
    generator = torch.Generator().manual_seed(1)
    lengths, image_rows = [4, 7, 2, 5, 1], torch.tensor([0, 0, 0, 1, 1])
    ids = torch.full((5, 7), IGNORED)
    for caption, length in enumerate(lengths):
        ids[caption, :length] = torch.randint(0, VOCABULARY, (length,), generator=generator)
    prefix = torch.randn(2, PREFIX_LENGTH, WIDTH, generator=generator)
    return ids, image_rows, prefix.requires_grad_()


def naive_loss(lm: PreTrainedModel, ids: Tensor, image_rows: Tensor, prefix: Tensor) -> Tensor:
    """Caption by caption through the whole model, as the paper's formula says."""
    total = prefix.new_zeros(())
    for caption, image in zip(ids, image_rows, strict=True):
        tokens = caption[caption != IGNORED]
        words = lm.get_input_embeddings()(tokens)
        inputs = torch.cat([prefix[image], words])[None]  # (1, P + T, W)
        logits = lm(inputs_embeds=inputs, use_cache=False).logits[0]
        predicting = logits[PREFIX_LENGTH - 1 : -1]  # the last prefix place predicts the first
        total = total + F.cross_entropy(predicting, tokens, reduction="sum")
    return total


def gradients(loss: Tensor, lm: PreTrainedModel, prefix: Tensor) -> dict[str, Tensor]:
    """Gradients of a loss on the prefix and on every weight that takes part in it."""
    named = {"prefix": prefix, **dict(lm.named_parameters())}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("build", ANY_LM)
def test_loss_and_gradients_are_the_naive_ones_in_float32(build, shared):
    lm = lively(build)
    ids, image_rows, prefix = captions()
    abilities = abilities_of(lm)
    rows = pack(ids, image_rows, PREFIX_LENGTH, shared=shared and abilities.shared)
    found = packed_loss(lm, prefix[rows.images], rows, 0.0, abilities)
    expected = naive_loss(lm, ids, image_rows, prefix)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    exact, got = gradients(expected, lm, prefix), gradients(found, lm, prefix)
    assert got.keys() == exact.keys()
    errors = torch.stack([(got[name] - exact[name]).norm() for name in exact])
    norms = torch.stack([gradient.norm() for gradient in exact.values()])
    assert errors.norm() < 1e-6 * norms.norm()
    # some gradients, such as of a bias on keys, are 0 but for rounding
    assert (errors < 3e-6 * norms.clamp(min=1.0)).all()


@pytest.mark.parametrize(
    ("build", "shared", "plain_head"),
    [
        (gpt2, True, True),
        (llama, True, True),
        (gpt_neox, True, True),
        (opt, True, True),
        (gemma2, True, False),
        (bloom, False, True),
    ],
)
def test_abilities_are_found(build, shared, plain_head):
    found = abilities_of(lively(build))
    assert (found.shared, found.plain_head) == (shared, plain_head)


def test_the_trial_of_a_model_leaves_no_trace():
    lm = lively(llama).train()
    implementation = lm.config._attn_implementation
    abilities_of(lm)
    assert lm.training
    assert lm.config._attn_implementation == implementation
    assert all(parameter.grad is None for parameter in lm.parameters())


def test_bf16_autocast_stays_near_float32():
    lm = lively(gpt2)
    ids, image_rows, prefix = captions()
    rows = pack(ids, image_rows, PREFIX_LENGTH, shared=True)
    exact = packed_loss(lm, prefix[rows.images], rows, 0.0, abilities_of(lm))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = packed_loss(lm, prefix[rows.images], rows, 0.0, abilities_of(lm))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=1e-2, atol=0)
    cosine = torch.cosine_similarity(
        torch.autograd.grad(found, prefix)[0].flatten(),
        torch.autograd.grad(exact, prefix)[0].flatten(),
        dim=0,
    )
    assert cosine > 0.999


def test_a_caption_beyond_the_last_position_is_refused():
    lm, ids = lively(gpt2), torch.ones(2, 39, dtype=torch.int64)
    rows = pack(ids, torch.tensor([0, 0]), PREFIX_LENGTH, shared=True)
    prefix = torch.randn(1, PREFIX_LENGTH, WIDTH)
    with pytest.raises(InputError, match="take 41 positions, the language model has 40"):
        packed_loss(lm, prefix, rows, 0.0, abilities_of(lm))


def test_many_short_captions_may_fill_a_row_longer_than_the_positions():
    lm, ids = lively(gpt2), torch.randint(0, VOCABULARY, (6, 9))
    prefix, image_rows = torch.randn(1, PREFIX_LENGTH, WIDTH), torch.zeros(6, dtype=torch.int64)
    rows = pack(ids, image_rows, PREFIX_LENGTH, shared=True)
    assert rows.position_ids.shape[1] > 40
    found = packed_loss(lm, prefix, rows, 0.0, abilities_of(lm))
    torch.testing.assert_close(found, naive_loss(lm, ids, image_rows, prefix), rtol=1e-6, atol=0)


@pytest.mark.parametrize("build", [gpt2, gemma2])
def test_weights_multiply_each_captions_loss(build):
    lm = lively(build)
    ids, image_rows, prefix = captions()
    weights = torch.tensor([2.0, -1.0, 0.0, 0.5, 3.0])
    rows = pack(ids, image_rows, PREFIX_LENGTH, shared=True, weights=weights)
    found = packed_loss(lm, prefix[rows.images], rows, 0.0, abilities_of(lm))
    alone = [naive_loss(lm, ids[m, None], image_rows[m, None], prefix) for m in range(len(ids))]
    torch.testing.assert_close(found, weights @ torch.stack(alone), rtol=1e-6, atol=0)
