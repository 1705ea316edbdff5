"""The generic path's cache: one row per beam, image by image."""

import torch

from prefixcap.cached_step import CachedStepper
from tests.step_models import prefixes, tiny_gpt2, uncached_logits


@torch.inference_mode()
def test_beams_of_an_image_are_neighbouring_rows_and_follow_their_parents():
    lm, prefix = tiny_gpt2(), prefixes(2)
    stepper = CachedStepper(lm)
    _, state = stepper.start(prefix, 2, 5)
    stepper.step(torch.tensor([[1, 2], [3, 4]]), state)
    state.reorder(torch.tensor([[1, 1], [1, 0]]))
    state.keep(torch.tensor([1]))
    found = stepper.step(torch.tensor([[5, 6]]), state)
    for beam, ids in enumerate([[4, 5], [3, 6]]):
        expected = uncached_logits(lm, prefix[1], ids)
        torch.testing.assert_close(found[0, beam], expected, atol=5e-5, rtol=1e-5)


@torch.inference_mode()
def test_logits_are_float32_whatever_the_model_is():
    stepper = CachedStepper(tiny_gpt2().bfloat16())
    logits, state = stepper.start(prefixes(2), 1, 3)
    assert logits.dtype is torch.float32
    assert stepper.step(torch.tensor([[1], [2]]), state).dtype is torch.float32
