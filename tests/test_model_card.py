"""The model card says what the model is and how it decodes."""

from prefixcap.config import DecodeOptions, EncoderConfig, LanguageModelConfig
from prefixcap.model_card import model_card
from tests.tiny_clipcap import RESNET, tiny_config, tiny_lm


def test_card_names_the_parts_of_the_model():
    encoder = EncoderConfig(kind="clip", name="openai/clip-vit-base-patch32", normalize=True)
    lm = LanguageModelConfig(name="openai-community/gpt2", revision="abc123")
    card = model_card(tiny_config(encoder=encoder, language_model=lm))
    assert "`openai/clip-vit-base-patch32`" in card
    assert "divided by their L2 norm" in card
    assert "`openai-community/gpt2` at revision abc123, frozen" in card
    assert "transformer, 2 layers, 4 heads, prefix of 3" in card


def test_card_of_a_self_contained_model_says_so():
    card = model_card(tiny_config(encoder=RESNET, embedding_tokens=4, end_token=False))
    assert "resnet, stored with the model, patches embeddings of 24, not normalised" in card
    assert "GPT-2 architecture, 2 layers of 32, trained; no end token was trained" in card


def test_card_holds_the_decoding_it_was_tuned_with():
    options = DecodeOptions(beam_size=5, order="sum", length_penalty=0.8)
    card = model_card(tiny_config(decoding=options))
    section = card.split("## Decoding")[1].split("##")[0]
    assert section.strip().splitlines()[2:] == [
        "- method: beam",
        "- order: sum",
        "- beam_size: 5",
        "- length_penalty: 0.8",
    ]


def test_card_carries_the_authors_words_and_the_metadata_of_hubs():
    card = model_card(
        tiny_config(language_model=tiny_lm()), name="me/dogs", about="CIDEr 30.", licence="mit"
    )
    head, body = card.removeprefix("---\n").split("\n---\n")
    assert "license: mit" in head.splitlines()
    assert "pipeline_tag: image-to-text" in head.splitlines()
    assert body.strip().startswith("# me/dogs")
    assert "CIDEr 30." in body
    assert "prefixcap caption --model me/dogs photo.jpg" in body
