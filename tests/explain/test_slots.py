"""A slot is replaced by its mean over the other images, and captions are scored again."""

import numpy as np
import pytest
import torch

from prefixcap.errors import InputError
from prefixcap.explain.slots import caption_log_probs, slot_effects, without_each_slot
from prefixcap.language_model import PrefixDecoder
from tests.tiny_captioner import random_photo
from tests.tiny_explained import patch_captioner


@pytest.fixture(scope="module")
def captioner():
    return patch_captioner()


@pytest.fixture(scope="module")
def prefixes(captioner):
    images = [random_photo(np.random.default_rng(n)) for n in range(3)]
    with torch.inference_mode():
        return captioner.model.prefix(captioner.embed(images))  # (3, P, D)


def test_row_s_differs_in_slot_s_only_and_has_the_others_mean_there():
    prefixes = torch.randn(4, 3, 5)
    found = without_each_slot(prefixes, 1)
    for slot in range(3):
        assert torch.allclose(found[slot, slot], prefixes[[0, 2, 3], slot].mean(0), atol=1e-6)
        others = [other for other in range(3) if other != slot]
        assert torch.equal(found[slot, others], prefixes[1, others])


def test_one_image_has_no_others():
    with pytest.raises(InputError, match="two or more"):
        without_each_slot(torch.randn(1, 3, 5), 0)


def test_log_probabilities_are_those_of_the_language_model_run_at_once(captioner, prefixes):
    lm, ids = captioner.model.lm, [7, 40, 3, 260]
    found = caption_log_probs(PrefixDecoder(lm), prefixes, ids)
    told = lm.get_input_embeddings()(torch.tensor(ids[:-1])).expand(3, -1, -1)
    with torch.inference_mode():
        logits = lm(inputs_embeds=torch.cat([prefixes, told], 1)).logits[:, -len(ids) :]
    expected = logits.log_softmax(-1)[:, range(4), ids].sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert caption_log_probs(PrefixDecoder(lm), prefixes, []).tolist() == [0, 0, 0]


def test_effects_are_of_the_replaced_slot_and_nothing_is_0(captioner, prefixes):
    same_first = prefixes.clone()
    same_first[:, 0] = prefixes[0, 0]  # slot 0 is the same in all images
    captions = [one[0] for one in captioner.captions_of_embeddings(_embeddings(captioner))]
    found = slot_effects(captioner, same_first, captions, rewrite=True)
    assert [len(slots) for slots in found] == [3, 3, 3]
    assert max(abs(slots[0].log_prob) for slots in found) < 1e-4
    assert min(abs(slots[1].log_prob) for slots in found) > 1e-3
    decoder = PrefixDecoder(captioner.model.lm)
    variants = without_each_slot(same_first, 2)
    change = caption_log_probs(decoder, variants, captions[2].token_ids) - caption_log_probs(
        decoder, same_first[2:], captions[2].token_ids
    )
    assert [one.log_prob for one in found[2]] == pytest.approx(change.tolist(), abs=1e-4)
    quick = slot_effects(captioner, same_first, captions, rewrite=False)
    assert {one.caption for slots in quick for one in slots} == {None}


def _embeddings(captioner):
    """Embeddings of three photos."""
    return captioner.embed([random_photo(np.random.default_rng(n)) for n in range(3)])


def test_captions_without_a_slot_are_those_of_the_model_with_that_prefix(captioner, prefixes):
    captions = [one[0] for one in captioner.captions_of_embeddings(_embeddings(captioner))]
    unchanged = torch.cat([prefixes[:1]] * 2)  # the other image is the same one
    found = slot_effects(captioner, unchanged, captions[:1] * 2, rewrite=True)
    assert {one.caption for one in found[0]} == {captions[0].text}
