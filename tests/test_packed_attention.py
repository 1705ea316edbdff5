"""Attention between lists of filled places against attention over whole rows."""

import pytest
import torch

from prefixcap.packed_attention import Attention, Layout
from prefixcap.packed_rows import pack
from prefixcap.tokenizer import IGNORED

HEADS, WIDTH, SCALE = 2, 8, 0.35


def captions(tokens):
    """Ids of five captions of `tokens` tokens at most, of two images, in rows of their own."""
    ids = torch.zeros(5, tokens, dtype=torch.int64)
    lengths = torch.tensor([tokens, 4, 2, 5, 1])
    ids[torch.arange(tokens) >= lengths[:, None]] = IGNORED
    return ids, torch.tensor([0, 0, 0, 1, 1])


def by_rows(qkv, rows):
    """Mixed values at all filled places, of rows whose empty places hold zeros."""
    count, length = rows.position_ids.shape
    grid = qkv.new_zeros(count * length, 3 * WIDTH).index_copy(0, rows.places, qkv)
    grid = grid.view(count, length, 3, HEADS, -1)
    queries, keys, values = grid.permute(2, 0, 3, 1, 4)  # (R, H, S, d) each
    seen = rows.visible
    if seen is None:
        seen = torch.ones(length, length, dtype=torch.bool).tril()
    scores = (queries @ keys.mT * SCALE).masked_fill(~seen, -torch.inf)
    mixed = (scores.softmax(dim=-1) @ values).transpose(1, 2).flatten(2)  # (R, S, W)
    return mixed.flatten(0, 1)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("tokens", [6, 40])  # rows shorter and longer than a processor's vectors
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize("which", [slice(None), slice(3, 11)])
def test_values_and_gradients_are_those_of_whole_rows(shared, tokens, dtype, tolerance, which):
    rows = pack(*captions(tokens), 3, shared=shared)
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(len(rows.places), 3 * WIDTH, generator=generator, dtype=torch.float64)
    qkv = exact.to(dtype).requires_grad_()
    exact = qkv.detach().double().requires_grad_()
    wanted = rows.places[which]
    layout = Layout(rows, dtype, HEADS)
    found = Attention.apply(qkv, layout, layout.cells(wanted), SCALE)
    expected = by_rows(exact, rows)[wanted]
    weigh = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    [gradient] = torch.autograd.grad((found.double() * weigh).sum(), qkv)
    [exact_gradient] = torch.autograd.grad((expected * weigh).sum(), exact)
    assert found.dtype == gradient.dtype == dtype
    assert (found.double() - expected).norm() <= tolerance * expected.norm()
    assert (gradient.double() - exact_gradient).norm() <= tolerance * exact_gradient.norm()
