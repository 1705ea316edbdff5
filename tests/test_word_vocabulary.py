"""Whole-word vocabularies: what counts as a word, and what becomes of the others."""

import pytest

from prefixcap.errors import InputError
from prefixcap.tokenizer import CaptionTokenizer
from prefixcap.word_vocabulary import count_words, special_ids
from tests.tiny_clipcap import tiny_tokenizer

CAPTIONS = ["A man's dog , running .", "a Dog runs, a dog sits.", "Two-man teams run!"]


def words(tokenizer: CaptionTokenizer, text: str) -> list[str]:
    return [tokenizer.backend.id_to_token(token) for token in tokenizer.encode(text)]


def test_words_are_numbered_by_frequency_after_the_special_ones():
    tokenizer = count_words(CAPTIONS, 2)
    found = [tokenizer.backend.id_to_token(n) for n in range(tokenizer.vocabulary_size)]
    assert found == ["<unk>", "<start>", "<end>", "a", "dog", ",", "."]
    assert special_ids(tokenizer) == (0, 1) and tokenizer.end_id == 2


def test_rarer_words_become_unknown():
    tokenizer = count_words(CAPTIONS, 2)
    assert words(tokenizer, "A dog, a zebra runs.") == ["a", "dog", ",", "a", "<unk>", "<unk>", "."]


def test_apostrophes_stay_in_words_and_hyphens_part_them():
    tokenizer = count_words(CAPTIONS, 1)
    assert words(tokenizer, "Man's two-man!") == ["man's", "two", "-", "man", "!"]


def test_text_never_becomes_a_special_word():
    tokenizer = count_words([*CAPTIONS, "a sign that says <end> or <start>"], 1)
    assert not {0, 1, 2} & set(tokenizer.encode("a sign that says <end> or <start>"))


def test_decoding_ends_at_the_end_and_puts_no_space_before_punctuation():
    tokenizer = count_words(CAPTIONS, 1)
    ids = tokenizer.encode("a man's dog runs, a dog sits.")
    text = "a man's dog runs, a dog sits."
    assert tokenizer.decode([*ids, tokenizer.end_id, *ids]) == text


def test_saved_and_loaded_it_is_the_same(tmp_path):
    tokenizer = count_words(CAPTIONS, 1)
    tokenizer.save(tmp_path)
    for found in (CaptionTokenizer.load(tmp_path), CaptionTokenizer.from_pretrained(str(tmp_path))):
        assert found.encode("Two dogs run.") == tokenizer.encode("Two dogs run.")
        assert (found.end_id, special_ids(found)) == (2, (0, 1))


def test_too_high_a_count_and_other_tokenizers_are_refused():
    with pytest.raises(InputError, match=r"min_count = 6 .*'a' occurs 3 times"):
        count_words(CAPTIONS, 6)
    with pytest.raises(InputError, match=r"no <unk>, <start>, <end>"):
        special_ids(tiny_tokenizer())
