"""Language models come from sizes, from folders and from saved settings, and train as asked."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.activations import NewGELUActivation

from prefixcap.causal_lm import fresh_gpt2, load_causal_lm, pinned, stored_causal_lm
from prefixcap.config import LanguageModelConfig
from prefixcap.errors import InputError
from tests.tiny_clipcap import tiny_lm


@pytest.fixture
def llama_folder(tmp_path: Path) -> Path:
    """Folder of a small Llama with dropout on its attention, as transformers saves it."""
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    config = LlamaConfig(**sizes, num_attention_heads=2, attention_dropout=0.3)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def dropout_rates(lm: nn.Module) -> set[float]:
    """All dropout probabilities in a model."""
    modules = list(lm.modules())
    rates = {module.p for module in modules if isinstance(module, nn.Dropout)}
    return rates | {m.attention_dropout for m in modules if hasattr(m, "attention_dropout")}


def test_fresh_gpt2_has_the_sizes_asked_for():
    lm = fresh_gpt2(tiny_lm(width=48, layers=3, heads=6, positions=20, vocabulary=99))
    found = (lm.config.n_embd, lm.config.n_layer, lm.config.n_head, lm.config.n_positions)
    assert found == (48, 3, 6, 20)
    assert lm.get_input_embeddings().weight.shape == (99, 48)
    assert lm.lm_head.weight is lm.transformer.wte.weight


@pytest.mark.parametrize(("frozen", "rate"), [(False, 0.25), (True, 0.0)])
def test_every_dropout_of_gpt2_is_the_one_asked_for_and_none_when_frozen(frozen, rate):
    lm = fresh_gpt2(tiny_lm(dropout=0.25, frozen=frozen)).train()
    assert dropout_rates(lm) == {rate}
    ids = torch.arange(9)[None]
    same = torch.equal(lm(ids).logits, lm(ids).logits)
    assert same == frozen


def test_frozen_weights_want_no_gradient():
    assert not any(p.requires_grad for p in fresh_gpt2(tiny_lm(frozen=True)).parameters())
    assert all(p.requires_grad for p in fresh_gpt2(tiny_lm(frozen=False)).parameters())


def test_the_fused_activation_is_gpt2s_own_function():
    lm = fresh_gpt2(tiny_lm())
    values = torch.linspace(-6, 6, 101)
    torch.testing.assert_close(lm.transformer.h[0].mlp.act(values), NewGELUActivation()(values))


def test_any_architecture_loads_from_a_folder(llama_folder):
    lm = load_causal_lm(LanguageModelConfig(name=str(llama_folder), frozen=False, dropout=0.1))
    original = LlamaForCausalLM.from_pretrained(llama_folder)
    ids = torch.arange(9)[None]
    assert isinstance(lm, LlamaForCausalLM)
    torch.testing.assert_close(lm.eval()(ids).logits, original(ids).logits)
    assert dropout_rates(lm) == {0.1}


def test_a_stored_model_is_built_from_its_settings_with_tied_weights(llama_folder, tmp_path):
    settings = json.loads((llama_folder / "config.json").read_text())
    settings["tie_word_embeddings"] = True
    (tmp_path / "language_model.json").write_text(json.dumps(settings))
    config = LanguageModelConfig(name="somewhere/llama", stored=True)
    lm = stored_causal_lm(config, tmp_path / "language_model.json")
    assert isinstance(lm, LlamaForCausalLM)
    assert lm.lm_head.weight is lm.model.embed_tokens.weight


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "no such type"}', "{}"])
def test_settings_that_are_none_are_named(tmp_path, content):
    path = tmp_path / "language_model.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"language_model\.json"):
        stored_causal_lm(LanguageModelConfig(name="somewhere/llama", stored=True), path)


def test_a_folder_name_needs_no_commit(llama_folder):
    config = LanguageModelConfig(name=str(llama_folder))
    assert pinned(config) == config


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(InputError, match="heads = 5 does not divide its width 32"):
        fresh_gpt2(tiny_lm(heads=5))


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_causal_lm(LanguageModelConfig(name=str(tmp_path)))


def test_truncated_weights_are_named(llama_folder):
    weights = llama_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="llama: cannot be read as a causal language model"):
        load_causal_lm(LanguageModelConfig(name=str(llama_folder)))


def test_a_missing_tensor_is_named_not_left_random(llama_folder):
    weights = load_file(llama_folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, llama_folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"lack 1 tensors .* model\.layers\.1\.mlp\.up_proj\.weight"
    ):
        load_causal_lm(LanguageModelConfig(name=str(llama_folder)))


def test_another_kind_of_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read as a causal language model"):
        load_causal_lm(LanguageModelConfig(name=str(tmp_path)))
