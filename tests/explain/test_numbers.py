"""Sharing and readability, against prefixes whose answers are known."""

import pytest
import torch

from prefixcap.errors import InputError
from prefixcap.explain.numbers import (
    content_words,
    random_cosine,
    readability,
    same_word_share,
    sharing,
)
from prefixcap.explain.prefix import NearestToken


def words_of(*images: str) -> list:
    """Nearest tokens: a word a slot; the id is the word's hash."""
    return [[[NearestToken(word, hash(word), 0.5)] for word in text.split()] for text in images]


def test_a_constant_slot_is_all_shared_and_an_opposite_one_not_at_all():
    constant, opposite = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 3.0])
    prefixes = torch.stack([torch.stack([constant, sign * opposite]) for sign in (1, -1)])
    found = sharing(prefixes)
    assert found.cosine == pytest.approx([1, -1])
    assert found.between == pytest.approx([0, 1])
    assert found.directions == pytest.approx([0, 1])


def test_sharing_equals_a_loop_over_all_pairs():
    prefixes = torch.randn(7, 2, 5, generator=torch.Generator().manual_seed(0)) + 0.5
    found = sharing(prefixes)
    for slot in range(2):
        pairs = [
            float(torch.cosine_similarity(prefixes[a, slot], prefixes[b, slot], dim=0))
            for a in range(7)
            for b in range(7)
            if a != b
        ]
        assert found.cosine[slot] == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)
        values = torch.linalg.eigvalsh(prefixes[:, slot].T.cov())
        ratio = float(values.sum() ** 2 / values.square().sum())
        assert found.directions[slot] == pytest.approx(ratio, rel=1e-4)
        spread = float(prefixes[:, slot].var(0, correction=0).sum())
        whole = float(prefixes[:, slot].square().sum(-1).mean())
        assert found.between[slot] == pytest.approx(spread / whole, rel=1e-4)


def test_one_image_shares_nothing():
    with pytest.raises(InputError, match="two or more"):
        sharing(torch.randn(1, 2, 4))


def test_words_count_in_the_singular_and_only_if_they_name_something():
    texts = ["Two dogs with a ball.", "It's the DOG on the grass"]
    assert content_words(texts) == {"two", "dog", "ball", "grass"}


def test_readability_tells_an_images_own_words_from_anothers():
    words = words_of("dogs the sky", "dog cat ##")
    captions = ["a dog", "a sky"]
    references = [("a dog in the sky",), ("one cat",)]
    found = readability(words, captions, references, torch.randn(40, 8))
    assert found.own_caption == pytest.approx(1 / 6)  # dogs of the first image
    assert found.references == pytest.approx(3 / 6)  # dogs, sky; cat
    assert found.other_references == pytest.approx(1 / 6)  # dog of the second image
    assert found.any_reference == pytest.approx(4 / 6)
    assert found.cosine == 0.5


def test_without_references_nothing_is_said_of_them():
    found = readability(words_of("dog", "cat"), ["a dog", "a cat"], [(), ()], torch.randn(9, 4))
    assert (found.references, found.other_references, found.any_reference) == (None, None, None)
    assert found.own_caption == 1


def test_a_slot_is_shared_where_more_than_half_of_the_images_have_its_word():
    assert same_word_share(words_of("street dog", "street cat", "street dog", "town tree")) == 0.5


def test_random_directions_are_nearest_where_the_vocabulary_is_dense():
    sparse = random_cosine(torch.eye(32)[:2])
    dense = random_cosine(torch.randn(2000, 32, generator=torch.Generator().manual_seed(1)))
    assert 0 < sparse < dense < 1
