"""Checkpoints of the original code compute here what they computed there."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from prefixcap.config import DecodeOptions, EncoderConfig
from prefixcap.decoding import decode
from prefixcap.errors import InputError
from prefixcap.model import CaptionBatch, ClipCap
from prefixcap.packed_loss import hidden_states
from prefixcap.packed_rows import pack
from prefixcap.reference import import_checkpoint
from prefixcap.tokenizer import IGNORED
from tests.golden_cases import NAMES, GoldenCase, numbered_tokenizer, targets

ENCODER = EncoderConfig(kind="clip", name="ViT-B/32")
WIDTH, LAYERS, VOCABULARY, POSITIONS = 16, 2, 23, 40


@pytest.fixture(params=NAMES, scope="module")
def case(request: pytest.FixtureRequest, golden_dir: Path) -> GoldenCase:
    return GoldenCase.read(golden_dir, request.param)


@pytest.fixture(scope="module")
def model(case: GoldenCase) -> ClipCap:
    return case.model()


def test_settings_are_found_from_names_and_shapes(case, model):
    settings, config = case.settings, model.config
    gpt2 = settings["gpt2"]
    assert config.mapper.kind == settings["mapper"]
    assert config.mapper.prefix_length == settings["prefix_length"]
    assert config.embedding_dim == settings["clip_dim"]
    assert config.encoder.normalize == settings["normalize"]
    assert config.end_token is False
    if settings["mapper"] == "transformer":
        assert config.mapper.clip_length == settings["clip_length"]
        assert config.mapper.layers == settings["num_layers"]
    lm = config.language_model
    assert (lm.width, lm.layers, lm.vocabulary, lm.positions) == (
        gpt2["n_embd"],
        gpt2["n_layer"],
        gpt2["vocab_size"],
        gpt2["n_positions"],
    )


@torch.no_grad()
def test_prefix_is_the_originals(case, model):
    torch.testing.assert_close(
        model.prefix(case.embeddings()), case.tensors["prefix"], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("shared", [True, False])
@torch.no_grad()
def test_logits_are_the_originals(case, model, shared):
    ids, image_rows = targets(case.tensors["tokens"]), torch.arange(len(case.tensors["tokens"]))
    prefix = model.prefix(case.embeddings())
    rows = pack(ids, image_rows, prefix.shape[1], shared=shared)
    hidden = hidden_states(model.lm, prefix[rows.images], rows).flatten(0, 1)[rows.sources]
    expected = case.tensors["logits"][ids != IGNORED]
    torch.testing.assert_close(model.lm.lm_head(hidden), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shared", [True, False])
@torch.no_grad()
def test_loss_is_the_originals(case, model, shared):
    ids = targets(case.tensors["tokens"])
    total, count = model.loss(
        CaptionBatch(case.embeddings(), ids, torch.arange(len(ids))), shared=shared
    )
    assert float(total / count) == pytest.approx(case.settings["loss"], abs=1e-5)


def test_greedy_captions_are_the_originals(case, model):
    assert decoded(case, model, DecodeOptions()) == [[ids] for ids in case.settings["greedy"]]


def test_all_five_beams_are_the_originals_in_order(case, model):
    options = DecodeOptions(beam_size=5, captions_per_image=5)
    assert decoded(case, model, options) == case.settings["beam5"]


def test_captions_are_the_same_after_saving_and_loading(case, model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = ClipCap.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert decoded(case, loaded, DecodeOptions()) == [[ids] for ids in case.settings["greedy"]]


def test_training_follows_the_originals_losses(case):
    model, train, tensors = case.model(), case.settings["train"], case.tensors
    model.lm.requires_grad_(case.settings["lm_trained"])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=train["lr"], eps=train["eps"], weight_decay=train["weight_decay"]
    )
    warmup, total = train["warmup_steps"], train["total_steps"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: step / warmup if step < warmup else (total - step) / (total - warmup),
    )
    size, count = train["batch_size"], len(tensors["train_tokens"])
    for step, expected in enumerate(train["losses"]):
        rows = torch.arange(size * step, size * (step + 1)) % count
        ids = targets(tensors["train_tokens"][rows])
        batch = CaptionBatch(tensors["train_embeddings"][rows], ids, torch.arange(size))
        summed, tokens = model.loss(batch)
        loss = summed / tokens
        assert loss.item() == pytest.approx(expected, rel=2e-3), f"step {step}"
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        prefix = model.prefix(case.embeddings())
    torch.testing.assert_close(prefix, tensors["prefix_after_training"], atol=1e-4, rtol=0)


def decoded(case: GoldenCase, model: ClipCap, options: DecodeOptions) -> list[list[list[int]]]:
    """Token ids of each image's hypotheses."""
    options = options.model_copy(update={"max_tokens": case.settings["entry_length"]})
    stop = frozenset({case.settings["stop_token"]})
    found = decode(model, case.embeddings(), options, stop_ids=stop)
    return [[hypothesis.ids for hypothesis in image] for image in found]


def original_tensors(mapper: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """State dict as the original saves it: a small GPT-2 and the tensors of a mapper."""
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=WIDTH, n_layer=LAYERS, n_head=4
    )
    lm = GPT2LMHeadModel(config).state_dict()
    named = {f"gpt.{name}": tensor for name, tensor in lm.items()}
    return {**named, **{f"clip_project.{name}": tensor for name, tensor in mapper.items()}}


@pytest.fixture
def linear_form() -> dict[str, torch.Tensor]:
    """Checkpoint of the third form, one Linear, with 12 prefix vectors."""
    torch.manual_seed(0)
    return original_tensors(nn.Linear(20, 12 * WIDTH).state_dict())


def imported(tensors: object, folder: Path, heads: int = 4) -> ClipCap:
    """Model imported from a file that torch.save wrote."""
    torch.save(tensors, folder / "weights.pt")
    return import_checkpoint(
        folder / "weights.pt", ENCODER, heads=heads, tokenizer=numbered_tokenizer(VOCABULARY)
    )


def test_single_linear_form_maps_as_that_linear(linear_form, tmp_path):
    model = imported(linear_form, tmp_path)
    weight, bias = linear_form["clip_project.weight"], linear_form["clip_project.bias"]
    embeddings = torch.randn(3, 20)
    assert model.config.mapper.kind == "linear"
    expected = (embeddings @ weight.T + bias).view(3, 12, WIDTH)  # (B, P, W)
    torch.testing.assert_close(model.prefix(embeddings), expected)


def test_half_precision_checkpoint_is_read_as_float32(linear_form, tmp_path):
    half = {name: tensor.half() for name, tensor in linear_form.items()}
    model = imported(half, tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.mapper.linear.bias, half["clip_project.bias"].float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gpt.transformer.wte.weight": None}, "gpt.transformer.wte.weight"),
        ({"clip_project.weight": None}, "clip_project.weight"),
        ({"clip_project.bias": None}, "clip_project.bias"),
        ({"clip_project.bias": torch.zeros(5)}, r"clip_project.bias is \(5,\)"),
        ({"gpt.transformer.h.1.ln_1.bias": None}, "lacks tensor gpt.transformer.h.1.ln_1.bias"),
        ({"gpt.lm_head.weight": torch.zeros(VOCABULARY, WIDTH)}, "ties them"),
        ({"optimizer.state": torch.zeros(1)}, "optimizer.state"),
        ({"clip_project.weight": torch.zeros(WIDTH * 99, 20)}, "prefix_length"),
    ],
)
def test_tensors_that_do_not_fit_are_named(linear_form, tmp_path, change, message):
    changed = {name: t for name, t in {**linear_form, **change}.items() if t is not None}
    with pytest.raises(InputError, match=message):
        imported(changed, tmp_path)


def test_heads_that_do_not_divide_the_width_are_refused(linear_form, tmp_path):
    with pytest.raises(InputError, match="heads = 12"):
        imported(linear_form, tmp_path, heads=12)


def test_foreign_tensors_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"gpt\.transformer\.wte\.weight"):
        imported({"fc.weight": torch.zeros(3, 3)}, tmp_path)


def test_truncated_file_is_refused(linear_form, tmp_path):
    torch.save(linear_form, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.pt"):
        import_checkpoint(tmp_path / "cut.pt", ENCODER)


class Bomb:
    """Its unpickling would call a function."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("executed"),))


def test_code_in_a_file_is_not_executed(linear_form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"weights\.pt"):
        imported({**linear_form, "bomb": Bomb()}, tmp_path)
    assert not (tmp_path / "executed").exists()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.pt: no such file"):
        import_checkpoint(tmp_path / "none.pt", ENCODER)
