"""Captions survive the way to ids and back, with our own tokenizer and with GPT-2's."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from prefixcap.errors import InputError
from prefixcap.tokenizer import SETTINGS_FILE, TOKENIZER_FILE, CaptionTokenizer, train_bpe

CAPTIONS = ["A dog runs on the grass .", "Two dogs play.", "The dog's ball is in the water."] * 5
TOKENIZER = train_bpe(CAPTIONS, 290)


def test_trained_vocabulary_has_at_most_the_asked_size():
    assert TOKENIZER.vocabulary_size == 290
    assert train_bpe(["aa"], 5000).vocabulary_size < 300


def test_frequent_words_are_single_tokens():
    assert len(TOKENIZER.encode("dog")) == 1
    assert len(TOKENIZER.encode("zyx")) > 1


def test_every_spelling_of_a_caption_has_the_same_ids():
    assert TOKENIZER.encode("  A DOG   runs .\n") == TOKENIZER.encode("a dog runs.")


def test_decoding_stops_at_the_end_token():
    ids = TOKENIZER.encode("a dog.")
    assert TOKENIZER.decode([*ids, TOKENIZER.end_id, *ids]) == "a dog."


def test_a_batch_has_the_ids_of_its_captions():
    assert TOKENIZER.encode_batch(CAPTIONS) == [TOKENIZER.encode(text) for text in CAPTIONS]


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet=st.characters(codec="utf-8", categories=["Ll", "Nd", "Lo", "So"])))
def test_words_of_any_script_come_back(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == " ".join(lowered(text).split())


def lowered(text: str) -> str:
    """`text` as the tokenizer's normaliser leaves it."""
    return TOKENIZER.backend.normalizer.normalize_str(text)


def test_the_stop_word_is_the_token_that_captions_end_with():
    assert TOKENIZER.word_id(".") == TOKENIZER.encode("a dog .")[-1]
    assert TOKENIZER.word_id("dog") == TOKENIZER.encode("dog")[0]
    assert TOKENIZER.word_id("zyx") is None


def test_saved_tokenizer_is_the_same_here_and_in_transformers(tmp_path):
    TOKENIZER.save(tmp_path)
    loaded = CaptionTokenizer.load(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in CAPTIONS:
        assert loaded.encode(text) == TOKENIZER.encode(text)
        assert theirs(text, add_special_tokens=False)["input_ids"] == TOKENIZER.encode(text)
    assert (loaded.end_id, loaded.vocabulary_size) == (TOKENIZER.end_id, 290)
    assert theirs.eos_token_id == TOKENIZER.end_id


def test_a_folder_is_a_name_too(tmp_path):
    TOKENIZER.save(tmp_path)
    found = CaptionTokenizer.from_pretrained(str(tmp_path))
    assert found.encode("two dogs.") == TOKENIZER.encode("two dogs.")
    assert found.end_id == TOKENIZER.end_id


def test_gpt2s_published_files_give_its_ids(data_dir: Path):
    """Ids of "A dog running." as GPT-2 is known to give them; "." is 13, the end 50256."""
    gpt2 = CaptionTokenizer.from_pretrained(str(data_dir / "gpt2_bpe"))
    assert gpt2.encode("A dog running.") == [32, 3290, 2491, 13]
    assert gpt2.word_id(".") == 13
    assert (gpt2.end_id, gpt2.vocabulary_size) == (50256, 50257)
    assert gpt2.decode([32, 3290, 2491, 13, 50256, 32]) == "A dog running."


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(InputError, match="at least 257"):
        train_bpe(CAPTIONS, 256)


def test_older_settings_with_the_end_token_as_a_table_are_read(tmp_path):
    TOKENIZER.save(tmp_path)
    table = {"eos_token": {"content": "<|endoftext|>", "lstrip": False}}
    (tmp_path / SETTINGS_FILE).write_text(json.dumps(table))
    assert CaptionTokenizer.load(tmp_path).end_id == TOKENIZER.end_id


@pytest.mark.parametrize("file", [TOKENIZER_FILE, SETTINGS_FILE])
@pytest.mark.parametrize("content", [None, "", "{", "[1]"])
def test_missing_and_damaged_files_are_named(tmp_path, file, content):
    TOKENIZER.save(tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match=file):
        CaptionTokenizer.load(tmp_path)


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(InputError, match="has no tokenizer"):
        CaptionTokenizer.from_pretrained(str(tmp_path))
