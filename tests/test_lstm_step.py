"""Stepping an LSTM against reading whole captions, and what beams do to its state."""

import pytest
import torch

from prefixcap.config import DecodeOptions
from prefixcap.decoding import decode
from prefixcap.lstm import LstmCaptioner
from prefixcap.lstm_networks import OrderedCaptions
from tests.tiny_lstm import tiny_batch, tiny_lstm, tiny_model

KINDS = {
    "show-tell": {"layers": 2},
    "attend": {"attention": True},
    "attend-2": {"attention": True, "layers": 2, "gate": False},
}


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> LstmCaptioner:
    settings = KINDS[request.param]
    return tiny_model(tiny_lstm(**settings), patches="attention" in settings)


def read_logits(model: LstmCaptioner, embedding: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Logits (V,) after the words `ids`, from one reading of the whole caption."""
    captions = OrderedCaptions.of(torch.tensor([[*ids, 0]]), torch.tensor([0]), model.start_id)
    told, _ = model.network.read(embedding[None], captions)
    return model.network.output(told)[-1].detach()


def test_steps_equal_a_reading_whatever_beams_and_images_do(model):
    embeddings = tiny_batch(model).embeddings
    first, state = model.start(embeddings, 2, 9)
    logits = model.step(torch.tensor([[3, 4], [5, 6], [7, 8]]), state)
    state.reorder(torch.tensor([[1, 1], [0, 1], [1, 0]]))
    after = model.step(torch.tensor([[9, 3], [4, 5], [6, 7]]), state)
    state.keep(torch.tensor([2, 0]))
    last = model.step(torch.tensor([[5, 6], [7, 8]]), state)
    cases = [
        (first[1], 1, []),
        (logits[2, 1], 2, [8]),
        (after[0, 1], 0, [4, 3]),
        (after[2, 0], 2, [8, 6]),
        (last[0, 1], 2, [7, 7, 6]),
        (last[1, 0], 0, [4, 9, 7]),
    ]
    for found, image, ids in cases:
        expected = read_logits(model, embeddings[image], ids)
        torch.testing.assert_close(found[2:], expected[2:], rtol=1e-4, atol=1e-4)


def test_unknown_and_start_are_never_written(model):
    options = DecodeOptions(method="sample", captions_per_image=40, temperature=5.0, max_tokens=6)
    found = decode(model, tiny_batch(model).embeddings, options, stop_ids=frozenset({2}))
    written = {token for image in found for one in image for token in one.ids}
    assert {0, 1} & written == set() and len(written) > 10


@pytest.mark.parametrize("options", [DecodeOptions(), DecodeOptions(beam_size=3, order="sum")])
def test_an_image_gets_the_same_caption_alone_as_in_a_batch(model, options):
    embeddings = tiny_batch(model).embeddings
    together = decode(model, embeddings, options, stop_ids=frozenset({2}))
    alone = [decode(model, one[None], options, stop_ids=frozenset({2}))[0] for one in embeddings]
    assert [image[0].ids for image in together] == [image[0].ids for image in alone]


def test_changed_weights_are_used_at_once(model):
    embeddings = tiny_batch(model).embeddings
    before, _ = model.start(embeddings, 1, 5)
    with torch.no_grad():
        model.network.output.weight.mul_(2)
        model.network.output.bias.mul_(2)
    after, _ = model.start(embeddings, 1, 5)
    torch.testing.assert_close(after[:, 2:], 2 * before[:, 2:], rtol=1e-4, atol=1e-4)


def test_bfloat16_steps_are_near_float32(model):
    embeddings = tiny_batch(model).embeddings
    ids = torch.tensor([[3], [4], [5]])

    def second() -> torch.Tensor:
        _, state = model.start(embeddings, 1, 5)
        return model.step(ids, state)[:, 0, 2:]

    exact = second()
    model.to(torch.bfloat16)
    rounded = second()
    assert rounded.dtype is torch.float32
    assert (rounded - exact).norm() < 0.05 * exact.norm()
