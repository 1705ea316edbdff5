"""Adapters: what they train, that merging changes nothing, and runs that go on exactly."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from prefixcap.caption_stage import caption_recipe as run_caption
from prefixcap.config import LanguageModelConfig, parse
from prefixcap.errors import InputError, MissingExtraError
from prefixcap.lora import add_adapters, has_adapters, load_plain, merged
from prefixcap.model import ClipCap
from prefixcap.recipe import Recipe, load_recipe
from prefixcap.run_folder import RunFolder
from prefixcap.stages import Watch
from prefixcap.train import Progress
from tests.tiny_clipcap import tiny_batch, tiny_lm, tiny_model, tiny_tokenizer
from tests.tiny_run import caption_recipe, write_photos

pytest.importorskip("peft")
TARGETS = ("c_attn", "c_fc", "c_proj")


def adapted_model(std: float = 0.2, **changes: object) -> ClipCap:
    """`tiny_model` with adapters of this deviation; 0 is how they begin."""
    model = tiny_model(language_model=tiny_lm(frozen=True, lora_rank=2, **changes))
    plain = tiny_model()
    model.mapper.load_state_dict(plain.mapper.state_dict())
    load_plain(model.lm, plain.lm.state_dict())
    for name, parameter in model.lm.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=std)
    return model


def test_mapper_and_adapters_are_trained_and_nothing_else():
    model, batch = adapted_model(std=0), tiny_batch()
    before = model.loss(batch)[0]
    torch.testing.assert_close(before, tiny_model().loss(batch)[0])
    before.backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None}
    assert touched == {name for name, p in model.named_parameters() if p.requires_grad}
    parts = {name.split(".")[0] for name in touched if "lora_" not in name}
    assert parts == {"mapper"}
    adapters = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    assert adapters == 2 * 2 * (32 + 96)  # layers, rank, in + out of c_attn


@pytest.mark.parametrize("targets", [(), TARGETS])
def test_shared_rows_give_the_loss_of_merged_weights_one_caption_at_a_time(targets):
    model, batch = adapted_model(lora_targets=targets), tiny_batch()
    plain = tiny_model()
    plain.lm.load_state_dict(merged(model.lm).state_dict())
    found = model.loss(batch, shared=True)[0]
    torch.testing.assert_close(found, plain.loss(batch, shared=False)[0], rtol=1e-5, atol=0)
    unadapted = tiny_model().loss(batch)[0]
    assert (found - unadapted).abs() > 1e-3 * unadapted
    assert has_adapters(model.lm) and not has_adapters(plain.lm)


def test_captions_are_written_with_the_adapters():
    model = adapted_model(lora_targets=TARGETS)
    embeddings = tiny_batch().embeddings
    logits, state = model.start(embeddings, 1, 4)
    logits = logits.clone()
    ids = torch.tensor([[3], [1], [4]])
    second = model.step(ids, state)
    plain = merged(model.lm)
    inputs = torch.cat([model.prefix(embeddings), plain.get_input_embeddings()(ids)], dim=1)
    expected = plain(inputs_embeds=inputs).logits
    for found, wanted in ((logits, expected[:, -2]), (second[:, 0], expected[:, -1])):
        torch.testing.assert_close(
            found.log_softmax(-1), wanted.log_softmax(-1), atol=1e-4, rtol=1e-5
        )


def test_a_saved_model_is_plain(tmp_path, monkeypatch):
    model, batch = adapted_model(), tiny_batch()
    model.save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    found = ClipCap.from_pretrained(tmp_path)
    torch.testing.assert_close(found.loss(batch)[0], model.loss(batch)[0], rtol=1e-5, atol=0)
    names = load_file(tmp_path / "model.safetensors").keys()
    assert any(name.startswith("lm.") for name in names)
    assert not [name for name in names if "lora" in name or "base_layer" in name]
    assert "adapters of rank 2 (LoRA)" in (tmp_path / "README.md").read_text()
    found.save_pretrained(tmp_path / "again")
    assert load_file(tmp_path / "again" / "model.safetensors").keys() == names
    with pytest.raises(InputError, match="the language model was trained here"):
        found.save_pretrained(tmp_path / "without", store_lm=False)


def test_plain_weights_go_under_the_adapters():
    model, other = adapted_model(), tiny_model()
    nn.init.ones_(other.lm.transformer.h[0].attn.c_attn.weight)
    load_plain(model.lm, other.lm.state_dict())
    layer = model.lm.transformer.h[0].attn.c_attn
    assert (layer.base_layer.weight == 1).all() and (layer.lora_B["default"].weight != 0).any()
    with pytest.raises(RuntimeError):
        load_plain(model.lm, {})


def test_without_peft_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r'pip install "prefixcap\[lora\]"'):
        tiny_model(language_model=tiny_lm(frozen=True, lora_rank=2))


@pytest.mark.parametrize(
    ("targets", "said"),
    [(("query",), "fit no layer of this gpt2"), (("wte",), "word embeddings")],
)
def test_wrong_targets_are_refused_with_those_that_fit(targets, said):
    lm = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=1))
    config = LanguageModelConfig(lora_rank=1, lora_targets=targets)
    with pytest.raises(InputError, match=said) as error:
        add_adapters(lm, config)
    assert "c_attn, c_fc, c_proj" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values", [{"lora_rank": 2, "frozen": False}, {"lora_dropout": 0.1}, {"lora_targets": ["x"]}]
)
def test_settings_that_contradict_each_other_are_refused(values):
    with pytest.raises(InputError, match="lora_rank"):
        parse(LanguageModelConfig, values, "recipe")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Six steps of mapper and adapters with dropout, on a language model by name, in pixels."""
    sizes = {"vocab_size": 270, "n_positions": 40, "n_embd": 16, "n_layer": 1, "n_head": 2}
    lm = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None))
    lm.save_pretrained(tmp_path / "gpt2")
    tiny_tokenizer().save(tmp_path / "gpt2")
    text = caption_recipe(write_photos(tmp_path / "data"))
    head, tail = text.split("[language_model]")
    table = f'name = "{tmp_path}/gpt2"\nlora_rank = 2\nlora_dropout = 0.2\n'
    path = tmp_path / "lora.toml"
    path.write_text(f"{head}[language_model]\n{table}\n[train]{tail.split('[train]')[1]}")
    settings = ["train.epochs=1.5", "train.validate_epochs=3", "train.checkpoint_minutes=1e-9"]
    return load_recipe(path, [*settings, "dev=[]"])


class Cut(Exception):
    """The run ended in the middle of a step."""


def test_a_run_with_adapters_that_was_cut_off_goes_on_exactly(recipe, tmp_path):
    def cut(progress: Progress) -> None:
        if progress.step == 4:
            raise Cut

    counts = []
    whole = RunFolder(tmp_path / "runs/whole", recipe)
    run_caption(recipe, whole, Watch(trained_parameters=counts.append))
    with pytest.raises(Cut):
        run_caption(recipe, RunFolder(tmp_path / "runs/cut", recipe), Watch(step=cut))
    run_caption(recipe, RunFolder(tmp_path / "runs/cut", recipe), Watch())
    ours, theirs = (
        load_file(tmp_path / "runs" / name / "model/model.safetensors") for name in ("cut", "whole")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    before = load_file(tmp_path / "gpt2/model.safetensors")
    changed = {
        name for name, tensor in before.items() if not torch.equal(tensor, theirs[f"lm.{name}"])
    }
    assert changed == {"transformer.h.0.attn.c_attn.weight"}
    mapper = sum(tensor.numel() for name, tensor in theirs.items() if name.startswith("mapper."))
    encoder = sum(t.numel() for name, t in theirs.items() if name.startswith("encoder."))
    assert mapper < counts[0] < mapper + encoder + 2 * (16 + 48) + 1
