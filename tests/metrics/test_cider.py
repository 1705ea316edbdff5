"""CIDEr-D at its edges; its values are held by the known answers."""

from prefixcap.metrics import score


def test_captions_that_share_no_word_with_any_reference_score_zero():
    found = score({"a": "zebra", "b": ""}, {"a": ["a dog ."], "b": ["two cats"]}, ("cider",))
    assert found.corpus["CIDEr"] == 0.0
