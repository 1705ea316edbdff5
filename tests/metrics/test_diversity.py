"""Diversity of captions counted by hand."""

import pytest

from prefixcap.metrics import diversity


def test_shares_are_those_counted_by_hand():
    captions = ["a dog runs", "a dog sits", "a dog runs", "cats"]
    found = diversity(captions, training=["a dog sits", "a bird"])
    assert found.distinct[1] == pytest.approx(5 / 10)  # a, dog, runs, sits, cats
    assert found.distinct[2] == pytest.approx(3 / 6)  # a dog, dog runs, dog sits
    assert found.distinct[4] == 0
    assert found.vocabulary == 5
    assert found.length == pytest.approx(10 / 4)
    assert found.different == pytest.approx(2 / 4)
    assert found.novel == pytest.approx(3 / 4)


def test_without_training_captions_novelty_is_unknown():
    assert diversity(["a"]).novel is None


def test_no_captions_are_an_error():
    with pytest.raises(ValueError, match="no captions"):
        diversity([])
