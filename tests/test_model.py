"""ClipCap as a whole: its loss, its steps, what trains, and that saved models come back equal."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from prefixcap.config import EncoderConfig, LanguageModelConfig, MapperConfig, ModelConfig
from prefixcap.encoder import build_encoder
from prefixcap.errors import InputError
from prefixcap.mapper import build_mapper
from prefixcap.model import CaptionBatch, ClipCap
from prefixcap.tokenizer import IGNORED, train_bpe
from tests.tiny_clipcap import (
    EMBEDDING_DIM,
    RESNET,
    VOCABULARY,
    tiny_batch,
    tiny_config,
    tiny_lm,
    tiny_model,
    tiny_tokenizer,
)


def loss_and_gradients(
    model: ClipCap, batch: CaptionBatch, **options: object
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Summed loss and the gradient of every trained weight."""
    total, _ = model.loss(batch, **options)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(total, list(trained.values()))
    return total.detach(), dict(zip(trained, found, strict=True))


@pytest.mark.parametrize("kind", ["mlp", "transformer", "linear"])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_sharing_the_prefix_changes_neither_loss_nor_gradients(kind, frozen, label_smoothing):
    mapper = MapperConfig(kind=kind, prefix_length=3, clip_length=2, layers=2, heads=4)
    model = tiny_model(mapper=mapper, language_model=tiny_lm(frozen=frozen)).double()
    batch, options = tiny_batch(), {"label_smoothing": label_smoothing}
    shared_loss, shared = loss_and_gradients(model, batch, shared=True, **options)
    apart_loss, apart = loss_and_gradients(model, batch, shared=False, **options)
    torch.testing.assert_close(shared_loss, apart_loss, rtol=1e-12, atol=0)
    error = sum(float((shared[name] - apart[name]).square().sum()) for name in apart)
    scale = sum(float(gradient.square().sum()) for gradient in apart.values())
    assert error**0.5 < 1e-12 * scale**0.5


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_weighted_loss_is_the_weighted_sum_of_each_captions(shared, label_smoothing):
    model, batch = tiny_model().double(), tiny_batch()
    weights = torch.tensor([1.0, -0.5, 0.0, 2.0, 0.25, -1.0, 1.5])
    options = {"shared": shared, "label_smoothing": label_smoothing}
    found, gradients = loss_and_gradients(model, replace(batch, weights=weights), **options)
    expected, sums = 0.0, {name: torch.zeros_like(g) for name, g in gradients.items()}
    for caption, weight in enumerate(weights):
        one = slice(caption, caption + 1)
        alone = CaptionBatch(batch.embeddings, batch.ids[one], batch.image_rows[one])
        loss, parts = loss_and_gradients(model, alone, **options)
        expected += weight * loss
        for name, part in parts.items():
            sums[name] += weight * part
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    error = sum(float((gradients[name] - exact).square().sum()) for name, exact in sums.items())
    scale = sum(float(exact.square().sum()) for exact in sums.values())
    assert error**0.5 < 1e-12 * scale**0.5


def test_a_weight_per_token_is_refused():
    batch = tiny_batch()
    with pytest.raises(InputError, match=r"weights have the shape \(7, 9\), expected \(7,\)"):
        tiny_model().loss(replace(batch, weights=torch.ones(batch.ids.shape)))


def test_loss_counts_caption_tokens_and_nothing_else():
    batch = tiny_batch()
    _, count = tiny_model().loss(batch)
    assert count == int((batch.ids != IGNORED).sum())


def test_token_0_is_learned_like_any_other():
    """The original ignores it, and so never learns "!"."""
    model, batch = tiny_model(), tiny_batch()
    ids = torch.where(batch.ids == IGNORED, IGNORED, 0)
    total, count = model.loss(CaptionBatch(batch.embeddings, ids, batch.image_rows))
    assert count == int((ids == 0).sum())
    assert total > 0


def test_images_without_captions_get_no_gradient():
    model, batch = tiny_model(), tiny_batch()
    embeddings = batch.embeddings.clone().requires_grad_()
    model.loss(CaptionBatch(embeddings, batch.ids, batch.image_rows))[0].backward()
    assert embeddings.grad[1].abs().sum() == 0
    assert embeddings.grad[[0, 2]].abs().sum(dim=1).min() > 0


def test_a_frozen_language_model_gets_no_gradient_and_no_dropout():
    model = tiny_model(language_model=tiny_lm(frozen=True, dropout=0.5)).train()
    batch = tiny_batch()
    first, second = model.loss(batch)[0], model.loss(batch)[0]
    assert torch.equal(first, second)
    first.backward()
    assert all(parameter.grad is None for parameter in model.lm.parameters())
    assert all(parameter.grad is not None for parameter in model.mapper.parameters())


def test_a_trained_language_model_has_its_dropout_in_training_only():
    model = tiny_model(language_model=tiny_lm(dropout=0.5)).train()
    batch = tiny_batch()
    assert model.loss(batch)[0] != model.loss(batch)[0]
    model.eval()
    assert model.loss(batch)[0] == model.loss(batch)[0]


def test_bf16_autocast_trains_in_float32_weights():
    model, batch = tiny_model(), tiny_batch()
    exact = model.loss(batch)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.loss(batch)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=2e-2, atol=0)
    found.backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


def test_a_few_steps_learn_the_captions_of_each_image():
    model, batch = tiny_model(), tiny_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        total, count = model.loss(batch)
        losses.append(total.item() / count)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


def test_start_and_step_predict_what_the_loss_scores():
    model = tiny_model().eval()
    embeddings, caption = tiny_batch().embeddings[:1], [5, 9, 2]
    logits, state = model.start(embeddings, 1, 3)
    log_probs = [logits.log_softmax(-1)[0, caption[0]]]
    for token, following in pairwise(caption):
        logits = model.step(torch.tensor([[token]]), state)
        log_probs.append(logits.log_softmax(-1)[0, 0, following])
    total, _ = model.loss(CaptionBatch(embeddings, torch.tensor([caption]), torch.tensor([0])))
    torch.testing.assert_close(-torch.stack(log_probs).sum(), total.detach(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("kind", "frozen", "millions"),
    [
        ("mlp", True, 32),
        ("transformer", True, 43),
        ("mlp", False, 156),
        ("transformer", False, 167),
    ],
)
def test_trained_parameters_are_those_of_the_papers_table(kind, frozen, millions):
    """ClipCap, table 1: GPT-2 small, D = 640, k = C = 10 (see the recipes on that)."""
    config = ModelConfig(
        encoder=EncoderConfig(kind="clip_resnet", name="RN50x4"),
        embedding_dim=640,
        mapper=MapperConfig(kind=kind, prefix_length=10, clip_length=10),
        language_model=LanguageModelConfig(name="gpt2", frozen=frozen),
    )
    with torch.device("meta"):
        lm = GPT2LMHeadModel(GPT2Config()).requires_grad_(not frozen)
        mapper = build_mapper(config.mapper, 640, 768)
    model = ClipCap(config, mapper, lm, tiny_tokenizer())
    assert round(model.trained_parameters / 1e6) == millions


@pytest.mark.parametrize("shape", [(2, EMBEDDING_DIM + 1), (2, 4, EMBEDDING_DIM), (EMBEDDING_DIM,)])
def test_embeddings_of_another_encoder_are_refused(shape):
    with pytest.raises(InputError, match=r"the mapper expects \(24,\)"):
        tiny_model().prefix(torch.zeros(shape))


def test_a_tokenizer_larger_than_the_language_model_is_refused():
    config = tiny_config(language_model=tiny_lm(vocabulary=VOCABULARY - 1))
    with pytest.raises(InputError, match="the tokenizer has 270 tokens, the language model 269"):
        ClipCap.build(config, train_bpe(["a dog runs on the grass, a cat sits"] * 9, VOCABULARY))


def with_encoder() -> ClipCap:
    """Model with its own small ResNet, patch tokens and all weights stored."""
    model = tiny_model(encoder=RESNET, embedding_tokens=16)
    model.encoder = build_encoder(RESNET)
    for module in model.encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)  # a buffer, not a parameter, has to be saved too
    return model.eval()


def test_a_self_contained_model_comes_back_equal(tmp_path):
    model, pixels = with_encoder(), torch.randn(2, 3, 32, 32)
    model.save_pretrained(tmp_path / "model")
    loaded = ClipCap.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        expected = model.prefix(model.encoder(pixels))
        found = loaded.prefix(loaded.encoder(pixels))
    assert torch.equal(found, expected)
    assert loaded.encoder.fingerprint() == model.encoder.fingerprint()
    assert loaded.config.encoder.preprocess == model.encoder.config.preprocess
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert not loaded.training
    assert loaded.tokenizer.encode("a dog") == model.tokenizer.encode("a dog")


@pytest.fixture
def gpt2_folder(tmp_path):
    """A small GPT-2 of its own name, as transformers saves it."""
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    return str(tmp_path / "gpt2")


def test_a_frozen_language_model_is_saved_by_name(gpt2_folder, tmp_path):
    model = tiny_model(language_model=LanguageModelConfig(name=gpt2_folder))
    batch = tiny_batch()
    before = GPT2LMHeadModel.from_pretrained(gpt2_folder).state_dict()
    model.lm.load_state_dict(before)  # tiny_model has changed the weights
    model.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 120_000  # the mapper's 27k
    loaded = ClipCap.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.loss(batch)[0], model.loss(batch)[0])


@pytest.mark.parametrize("frozen", [True, False])
def test_a_named_language_model_is_stored_where_asked_or_trained(gpt2_folder, tmp_path, frozen):
    model = tiny_model(language_model=LanguageModelConfig(name=gpt2_folder, frozen=frozen))
    model.save_pretrained(tmp_path / "model", store_lm=True if frozen else None)
    (tmp_path / "gpt2" / "model.safetensors").unlink()  # it is not needed any more
    loaded = ClipCap.from_pretrained(tmp_path / "model")
    batch = tiny_batch()
    assert torch.equal(loaded.loss(batch)[0], model.loss(batch)[0])
    assert loaded.config.language_model.stored


def test_a_trained_language_model_cannot_be_left_out(tmp_path):
    with pytest.raises(InputError, match="no name leads back"):
        tiny_model().save_pretrained(tmp_path, store_lm=False)
