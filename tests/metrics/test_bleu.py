"""BLEU against the COCO code's, and its counts against what they claim to be."""

import numpy as np
import pytest

from prefixcap.metrics import bleu
from prefixcap.metrics.ngrams import tabulate
from tests.metrics.coco_code import coco_scores, random_case, word_groups, words


@pytest.mark.parametrize("images", [1, 2, 200])
def test_random_captions_score_as_in_the_coco_code(images):
    candidates, references = random_case(images, seed=images)
    counts = bleu.count(tabulate(words(candidates), word_groups(references)))
    corpus, per_image = coco_scores("bleu", candidates, references)
    assert bleu.from_counts(counts.sum(0)) == pytest.approx(corpus, rel=0, abs=1e-12)
    assert bleu.from_counts(counts) == pytest.approx(per_image.T, rel=0, abs=1e-12)


def test_a_perfect_caption_scores_one():
    text = ["a", "dog", "runs", "on", "grass"]
    counts = bleu.count(tabulate([text], [[["no"], text]]))
    assert bleu.from_counts(counts)[0] == pytest.approx(np.ones(4), abs=1e-8)


def test_matches_are_clipped_at_the_reference_that_has_the_word_most_often():
    candidate = ["the"] * 7  # the example of Papineni et al. 2002, section 2.1
    references = word_groups([["the cat is on the mat", "there is a cat on the mat"]])
    counts = bleu.count(tabulate([candidate], references))
    assert counts[0].tolist()[:3] == [7, 7, 2]


def test_of_two_references_equally_close_in_length_the_shorter_counts():
    counts = bleu.count(tabulate([["a"] * 4], [[["b"] * 5, ["b"] * 3]]))
    assert counts[0, 1] == 3
