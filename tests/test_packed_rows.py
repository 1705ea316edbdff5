"""Where captions lie behind their prefixes, and what each place sees."""

import pytest
import torch

from prefixcap.packed_rows import pack
from prefixcap.tokenizer import IGNORED

PREFIX_LENGTH = 3
CAPTIONS = [[1, 2, 3], [4, 5], [7], [8, 9, 10, 11]]
IMAGES = [0, 0, 2, 2]


def padded(captions):
    longest = max(map(len, captions))
    return torch.tensor([ids + [IGNORED] * (longest - len(ids)) for ids in captions])


def test_an_images_captions_share_a_row_without_their_last_tokens():
    rows = pack(padded(CAPTIONS), torch.tensor(IMAGES), PREFIX_LENGTH, shared=True)
    assert rows.images.tolist() == [0, 2]
    assert rows.ids.tolist() == [[1, 2, 4], [8, 9, 10]]
    assert rows.position_ids.tolist() == [[0, 1, 2, 3, 4, 3], [0, 1, 2, 3, 4, 5]]


def test_unshared_captions_have_a_row_each():
    rows = pack(padded(CAPTIONS), torch.tensor(IMAGES), PREFIX_LENGTH, shared=False)
    assert rows.images.tolist() == IMAGES
    assert rows.ids.tolist() == [[1, 2, 0], [4, 0, 0], [0, 0, 0], [8, 9, 10]]
    assert rows.visible is None


def test_a_place_sees_the_prefix_and_the_past_of_its_own_caption():
    rows = pack(padded(CAPTIONS), torch.tensor(IMAGES), PREFIX_LENGTH, shared=True)
    first = rows.visible[0, 0].int().tolist()
    assert first == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1],  # the second caption does not see the first
    ]


@pytest.mark.parametrize("shared", [True, False])
def test_every_token_is_predicted_from_the_place_before_it(shared):
    rows = pack(padded(CAPTIONS), torch.tensor(IMAGES), PREFIX_LENGTH, shared=shared)
    assert rows.targets.tolist() == [token for ids in CAPTIONS for token in ids]
    width = rows.position_ids.shape[1]
    prefixes = torch.full((len(rows.images), PREFIX_LENGTH), -1)
    inputs = torch.cat([prefixes, rows.ids], dim=1).flatten()  # (R * (P + L),)
    before = [inputs[place].item() for place in rows.sources]
    assert before == [previous for ids in CAPTIONS for previous in [-1, *ids[:-1]]]
    starts = [place % width for place in rows.sources[torch.tensor([0, 3, 5, 6])].tolist()]
    assert starts == [PREFIX_LENGTH - 1] * 4


def test_no_place_of_padding_is_left_without_anything_to_see():
    rows = pack(padded([[1, 2, 3], [4]]), torch.tensor([0, 1]), PREFIX_LENGTH, shared=True)
    assert rows.visible.any(dim=-1).all()


def test_a_caption_of_no_tokens_changes_nothing():
    ids = torch.cat([padded(CAPTIONS), torch.full((1, 4), IGNORED)])
    with_empty = pack(ids, torch.tensor([*IMAGES, 2]), PREFIX_LENGTH, shared=True)
    without = pack(padded(CAPTIONS), torch.tensor(IMAGES), PREFIX_LENGTH, shared=True)
    assert torch.equal(with_empty.ids, without.ids)
    assert torch.equal(with_empty.sources, without.sources)
