"""What a distillation reads beside pixels and grids."""

import numpy as np

from prefixcap.distill_batches import frequent_words, word_targets


def test_words_are_ranked_and_shared_over_captions():
    vocabulary = frequent_words(iter(["A dog runs", "a dog", "A cat!"]), 2)
    assert vocabulary == {"a": 0, "dog": 1}
    targets = word_targets([["a dog", "A bird"], []], vocabulary, 2)
    np.testing.assert_allclose(targets, [[1, 0.5], [0, 0]])
