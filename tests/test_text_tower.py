"""Text towers: the vectors of transformers' own models, whatever the batch and the length."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, CLIPModel, SiglipModel

from prefixcap import text_tower
from prefixcap.config import EncoderConfig
from prefixcap.encoder import resolve_encoder
from prefixcap.errors import InputError
from prefixcap.text_tower import load_text_tower
from tests.tiny_clip import CONTEXT, save_whole_clip, save_whole_siglip
from tests.tiny_encoders import save_clip
from tests.tiny_run import save_tiny_teacher

TEXTS = ["A dog.", "two cats", "a dog on a long, long beach with many birds", "", "a dog."]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Folder of a tiny CLIP."""
    return save_whole_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory) -> Path:
    """Folder of a tiny SigLIP."""
    return save_whole_siglip(tmp_path_factory.mktemp("siglip"))


@torch.inference_mode()
def test_clip_s_vectors_are_those_of_transformers(clip, monkeypatch):
    monkeypatch.setattr(text_tower, "BATCH", 2)
    tokenizer, model = AutoTokenizer.from_pretrained(clip), CLIPModel.from_pretrained(clip).eval()
    theirs = []
    for text in TEXTS:
        tokens = tokenizer([text], truncation=True, max_length=CONTEXT, return_tensors="pt")
        theirs.append(model.get_text_features(**tokens).pooler_output)
    ours = load_text_tower(resolve_encoder(str(clip))).encode(TEXTS)
    torch.testing.assert_close(ours, torch.cat(theirs), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[0], ours[4])  # lower case
    assert (ours[0] - ours[1]).abs().max() > 0.01


@torch.inference_mode()
def test_siglip_s_vectors_are_those_of_transformers(siglip):
    tokenizer = AutoTokenizer.from_pretrained(siglip)
    model = SiglipModel.from_pretrained(siglip).eval()
    tokens = tokenizer(
        TEXTS, padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt"
    )
    theirs = model.get_text_features(input_ids=tokens.input_ids).pooler_output
    ours = load_text_tower(resolve_encoder(str(siglip))).encode(TEXTS)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_text_longer_than_the_context_is_its_beginning(clip):
    tower = load_text_tower(resolve_encoder(str(clip)))
    first = " ".join("a" * (CONTEXT - 2))  # a start and an end token beside it
    vectors = tower.encode([first, f"{first} b", first.removesuffix(" a")])
    torch.testing.assert_close(vectors[0], vectors[1])
    assert (vectors[0] - vectors[2]).abs().max() > 1e-3


def test_bfloat16_is_near_and_comes_back_as_float32(clip):
    config = resolve_encoder(str(clip))
    exact, rough = (
        load_text_tower(config, dtype=dtype).encode(TEXTS)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert rough.dtype == torch.float32
    assert torch.cosine_similarity(exact, rough).min() > 0.99
    assert not torch.equal(exact, rough)


def test_models_without_text_tower_or_tokenizer_are_refused(tmp_path):
    vision = resolve_encoder(str(save_tiny_teacher(tmp_path / "vision")))
    with pytest.raises(InputError, match="without its text tower"):
        load_text_tower(vision)
    with pytest.raises(InputError, match="kind clip_resnet has no text tower"):
        load_text_tower(EncoderConfig(kind="clip_resnet", name="RN50"))
    with pytest.raises(InputError, match="has no tokenizer"):
        load_text_tower(resolve_encoder(str(save_clip(tmp_path / "bare"))))
