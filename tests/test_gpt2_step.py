"""What the cache of the fast path holds and never copies; test_language_model has its values."""

import torch
from transformers import GPT2LMHeadModel, OPTConfig, OPTForCausalLM

from prefixcap.gpt2_step import FIRST_STEPS, GPT2Stepper, is_plain_gpt2
from tests.step_models import prefixes, tiny_gpt2

WIDTH = 5


def started(images: int = 3, max_tokens: int = 40):
    """A stepper and the state of some images."""
    stepper = GPT2Stepper(tiny_gpt2())
    with torch.inference_mode():
        return stepper, stepper.start(prefixes(images), WIDTH, max_tokens)[1]


def stepped(stepper: GPT2Stepper, state, steps: int) -> None:
    """Some steps with arbitrary tokens and parents."""
    images = len(state.keys[0])
    with torch.inference_mode():
        for step in range(steps):
            if step:
                state.reorder(torch.randint(WIDTH, (images, WIDTH)))
            stepper.step(torch.randint(61, (images, WIDTH)), state)


def places(state) -> list[int]:
    """Addresses of all caches."""
    return [cache.data_ptr() for cache in (*state.keys, *state.values)]


def test_the_prefix_stands_once_per_image_and_each_step_adds_a_place_per_beam():
    stepper, state = started()
    assert state.used == 4
    stepped(stepper, state, 3)
    assert state.used == 4 + 3 * WIDTH


def test_neither_a_reorder_nor_a_step_nor_a_departure_moves_the_cache():
    stepper, state = started()
    before = places(state)
    stepped(stepper, state, 5)
    state.keep(torch.tensor([0, 2]))
    stepped(stepper, state, 2)
    assert places(state) == before


def test_a_reorder_leaves_every_key_where_it_was():
    stepper, state = started()
    stepped(stepper, state, 3)
    keys = state.keys[1].clone()
    state.reorder(torch.tensor([[4, 4, 0, 1, 2]] * 3))
    assert torch.equal(state.keys[1][..., : state.used], keys[..., : state.used])


def test_the_cache_grows_only_when_captions_turn_out_long():
    stepper, state = started()
    room = 4 + FIRST_STEPS * WIDTH
    stepped(stepper, state, FIRST_STEPS)
    assert state.values[0].shape[2] == room
    stepped(stepper, state, 1)
    assert state.values[0].shape[2] == 4 + 2 * FIRST_STEPS * WIDTH


def test_logits_are_written_to_the_same_place_at_every_step():
    stepper, state = started()
    with torch.inference_mode():
        first = stepper.step(torch.zeros(3, WIDTH, dtype=torch.int64), state)
        second = stepper.step(torch.ones(3, WIDTH, dtype=torch.int64), state)
    assert first.data_ptr() == second.data_ptr()


def test_what_is_not_plain_gpt2_is_recognised():
    crossed = tiny_gpt2(add_cross_attention=True)
    assert isinstance(crossed, GPT2LMHeadModel)
    assert not is_plain_gpt2(crossed)
    opt = OPTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16)
    assert not is_plain_gpt2(OPTForCausalLM(opt))
