"""CIDEr-D against the COCO code's, and at its edges."""

import numpy as np
import pytest

from prefixcap.metrics import cider, score
from prefixcap.metrics.ngrams import tabulate
from tests.metrics.coco_code import coco_scores, random_case, word_groups, words


@pytest.mark.parametrize("images", [1, 2, 200])
def test_random_captions_score_as_in_the_coco_code(images):
    candidates, references = random_case(images, seed=images)
    ours = cider.per_image(tabulate(words(candidates), word_groups(references)))
    corpus, per_image = coco_scores("cider", candidates, references)
    assert ours == pytest.approx(per_image, rel=0, abs=1e-12)
    assert ours.mean() == pytest.approx(float(corpus), rel=0, abs=1e-12)


def test_captions_that_share_no_word_with_any_reference_score_zero():
    found = score({"a": "zebra", "b": ""}, {"a": ["a dog ."], "b": ["two cats"]}, ("cider",))
    assert found.corpus["CIDEr"] == 0.0


def test_the_reference_itself_scores_ten_where_it_is_the_only_one():
    captions = ["a red dog runs fast", "two blue cats sleep here"]
    groups = [[caption] for caption in captions]
    ours = cider.per_image(tabulate(words(captions), word_groups(groups)))
    assert ours == pytest.approx(np.full(2, 10.0))
