"""Stepping with a cache against whole forwards of transformers without one."""

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PreTrainedModel,
)

from prefixcap.errors import InputError
from prefixcap.gpt2_step import GPT2State
from prefixcap.language_model import PrefixDecoder
from tests.step_models import prefixes, tiny_gpt2, uncached_logits

STEPS = 20  # past the first room of the cache


def others() -> dict[str, PreTrainedModel]:
    """Tiny language models of other architectures; width 32, vocabulary 61."""
    sizes = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    configs = {
        "opt": OPTConfig(**sizes, **ends, ffn_dim=64, word_embed_proj_dim=32),
        "llama": LlamaConfig(**sizes, **ends, intermediate_size=64, num_key_value_heads=2),
        "neox": GPTNeoXConfig(**sizes, **ends, intermediate_size=64),
    }
    torch.manual_seed(0)
    return {name: AutoModelForCausalLM.from_config(item).eval() for name, item in configs.items()}


class History:
    """Tokens of every beam, followed by hand through reorders and departures."""

    def __init__(self, images: int, width: int) -> None:
        self.ids: list[list[list[int]]] = [[[] for _ in range(width)] for _ in range(images)]

    def reorder(self, parents: Tensor) -> None:
        self.ids = [
            [list(beams[parent]) for parent in chosen]
            for beams, chosen in zip(self.ids, parents.tolist(), strict=True)
        ]

    def append(self, ids: Tensor) -> None:
        for beams, tokens in zip(self.ids, ids.tolist(), strict=True):
            for beam, token in zip(beams, tokens, strict=True):
                beam.append(token)

    def logits(self, lm: PreTrainedModel, prefix: Tensor) -> Tensor:
        return torch.stack(
            [
                torch.stack([uncached_logits(lm, own, ids) for ids in beams])
                for own, beams in zip(prefix, self.ids, strict=True)
            ]
        )


def check_against_whole_forwards(lm: PreTrainedModel, fast: bool, width: int, steps: int) -> None:
    """Random tokens, parents and departures; logits equal at every step up to a row's constant."""
    generator = torch.Generator().manual_seed(7)
    decoder, prefix, history = PrefixDecoder(lm, fast=fast), prefixes(3), History(3, width)
    logits, state = decoder.start(prefix, width, steps + 1)
    expected = torch.stack([uncached_logits(lm, own, []) for own in prefix])
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-5)
    for step in range(steps):
        if step > 0:
            parents = torch.randint(width, (len(prefix), width), generator=generator)
            state.reorder(parents)
            history.reorder(parents)
        if step == 3:
            staying = torch.tensor([0, 2])
            state.keep(staying)
            prefix, history.ids = prefix[staying], [history.ids[0], history.ids[2]]
        ids = torch.randint(61, (len(prefix), width), generator=generator)
        history.append(ids)
        found = decoder.step(ids, state)
        expected = history.logits(lm, prefix)
        torch.testing.assert_close(found, expected, atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("fast", [True, False])
def test_stepping_gpt2_equals_whole_forwards_without_a_cache(fast: bool, width: int):
    check_against_whole_forwards(tiny_gpt2(), fast, width, STEPS)


@pytest.mark.parametrize("name", ["opt", "llama", "neox"])
def test_stepping_another_language_model_equals_whole_forwards(name: str):
    check_against_whole_forwards(others()[name], True, 2, 6)


@pytest.mark.parametrize(
    "settings",
    [
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False},
        {"activation_function": "relu"},
        {"activation_function": "gelu"},
        {"n_inner": 48},
        {"tie_word_embeddings": False},
    ],
    ids=lambda settings: next(iter(settings)) + "-" + str(next(iter(settings.values()))),
)
def test_fast_path_honours_every_setting_of_gpt2(settings: dict[str, object]):
    lm = tiny_gpt2(**settings)
    assert isinstance(PrefixDecoder(lm).start(prefixes(1), 1, 1)[1], GPT2State)
    check_against_whole_forwards(lm, True, 2, 3)


def test_fast_path_in_bf16_is_as_near_to_float32_as_transformers_in_bf16():
    lm, half, prefix = tiny_gpt2(), tiny_gpt2().bfloat16(), prefixes(64)
    exact = torch.stack([uncached_logits(lm, own, []) for own in prefix]).log_softmax(-1)
    plain = torch.stack([uncached_logits(half, own, []) for own in prefix.bfloat16()])
    found = PrefixDecoder(half).start(prefix, 1, 1)[0]
    error = (found.log_softmax(-1) - exact).abs().mean()
    assert error < 1.1 * (plain.float().log_softmax(-1) - exact).abs().mean()


def test_training_the_language_model_changes_the_next_caption():
    lm, prefix = tiny_gpt2(), prefixes(1)
    decoder = PrefixDecoder(lm)
    decoder.start(prefix, 1, 1)
    optimizer = torch.optim.SGD(lm.parameters(), lr=0.1)
    lm(inputs_embeds=prefix).logits[0, -1].logsumexp(-1).backward()
    optimizer.step()
    found = decoder.start(prefix, 1, 1)[0][0]
    torch.testing.assert_close(found, uncached_logits(lm, prefix[0], []), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("fast", [True, False])
def test_captions_longer_than_the_positions_are_refused_with_the_longest_that_fits(fast: bool):
    decoder = PrefixDecoder(tiny_gpt2(), fast=fast)
    decoder.start(prefixes(1), 1, 61)
    with pytest.raises(InputError, match="Set max_tokens to at most 61"):
        decoder.start(prefixes(1), 1, 62)


def test_last_caption_token_that_fits_the_positions_can_be_stepped_to():
    decoder, lm = PrefixDecoder(tiny_gpt2()), tiny_gpt2()
    _, state = decoder.start(prefixes(1), 1, 61)
    for _ in range(60):
        logits = decoder.step(torch.tensor([[5]]), state)
    expected = uncached_logits(lm, prefixes(1)[0], [5] * 60)
    torch.testing.assert_close(logits[0, 0], expected, atol=5e-5, rtol=1e-5)
