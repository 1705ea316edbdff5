"""A prefix is named by the words that lie in its direction."""

import numpy as np
import pytest
import torch

from prefixcap.config import EncoderConfig, LanguageModelConfig, MapperConfig, ModelConfig
from prefixcap.errors import InputError
from prefixcap.explain.prefix import nearest_tokens, prefix_as_words, token_text
from prefixcap.model import ClipCap
from prefixcap.tokenizer import train_bpe

SLOTS, WIDTH = 3, 16


@pytest.fixture(scope="module")
def model() -> ClipCap:
    """Untrained ClipCap with a prefix of three vectors over a vocabulary of a few words."""
    tokenizer = train_bpe(["a dog runs on the grass", "a dog on the beach"] * 9, 300)
    torch.manual_seed(0)
    config = ModelConfig(
        encoder=EncoderConfig(kind="clip", name="not-loaded"),
        embedding_dim=8,
        mapper=MapperConfig(kind="linear", prefix_length=SLOTS),
        language_model=LanguageModelConfig(
            width=WIDTH, layers=1, heads=2, vocabulary=tokenizer.vocabulary_size, frozen=False
        ),
    )
    return ClipCap.build(config, tokenizer).eval()


def test_nearest_tokens_equal_an_exhaustive_search():
    generator = np.random.default_rng(0)
    prefix, vocabulary = generator.normal(size=(2, 3, 5)), generator.normal(size=(40, 5))
    values, ids = nearest_tokens(torch.tensor(prefix), torch.tensor(vocabulary), 4)
    for image, slot in np.ndindex(2, 3):
        vector = prefix[image, slot]
        cosines = [
            sum(vector * word) / (np.linalg.norm(vector) * np.linalg.norm(word))
            for word in vocabulary
        ]
        order = sorted(range(40), key=lambda token: -cosines[token])[:4]
        assert ids[image, slot].tolist() == order
        np.testing.assert_allclose(values[image, slot], [cosines[t] for t in order], atol=1e-6)


def test_a_prefix_of_word_vectors_reads_as_those_words_at_any_length(model):
    tokenizer = model.tokenizer
    spoken = [tokenizer.word_id(word) for word in ("dog", "beach", "grass")]
    words = model.lm.get_input_embeddings().weight.detach()[spoken]  # (P, D)
    scales = torch.tensor([[0.01], [1.0], [300.0]])
    with torch.no_grad():
        model.mapper.linear.weight.zero_()
        model.mapper.linear.bias.copy_((words * scales).flatten())
    slots = prefix_as_words(model, torch.randn(1, 8))[0]
    assert [nearest[0].text for nearest in slots] == ["dog", "beach", "grass"]
    assert [nearest[0].token_id for nearest in slots] == spoken
    assert [nearest[0].similarity for nearest in slots] == [1.0, 1.0, 1.0]


def test_every_image_and_slot_has_as_many_words_as_asked_nearest_first(model):
    found = prefix_as_words(model, torch.randn(2, 8), count=5)
    assert [[len(nearest) for nearest in slots] for slots in found] == [[5] * SLOTS] * 2
    for slots in found:
        for nearest in slots:
            similarities = [token.similarity for token in nearest]
            assert similarities == sorted(similarities, reverse=True)


def test_half_precision_weights_are_compared_in_single_precision(model):
    prefix, vocabulary = torch.randn(1, 2, WIDTH), torch.randn(50, WIDTH)
    half = nearest_tokens(prefix.bfloat16(), vocabulary.bfloat16(), 1)
    same = nearest_tokens(prefix.bfloat16().float(), vocabulary.bfloat16().float(), 1)
    assert half[0].dtype == torch.float32
    assert torch.equal(half[0], same[0])


@pytest.mark.parametrize("count", [0, 51])
def test_a_count_outside_the_vocabulary_is_refused(count):
    with pytest.raises(InputError, match="expected 1 to 50"):
        nearest_tokens(torch.randn(1, 2, 4), torch.randn(50, 4), count)


def test_a_token_that_is_half_a_character_is_shown_as_its_entry(model):
    lone_byte = model.tokenizer.encode("é")[0]
    assert token_text(model.tokenizer, lone_byte) == model.tokenizer.backend.id_to_token(lone_byte)
    assert token_text(model.tokenizer, model.tokenizer.word_id("dog")) == "dog"
