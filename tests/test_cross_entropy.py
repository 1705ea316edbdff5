"""The chunked cross-entropy against torch's own, on values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from prefixcap import cross_entropy
from prefixcap.cross_entropy import OutputLayer, chunked_cross_entropy
from prefixcap.loss_targets import Targets, Taught

ROWS, WIDTH, VOCABULARY = 23, 12, 57


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(cross_entropy, "ROWS_AT_ONCE", 5)
    monkeypatch.setattr(cross_entropy, "WORDS_AT_ONCE", 16)
    monkeypatch.setattr(cross_entropy, "ROWS_IN_CACHE", 2)


def inputs(dtype=torch.float64):
    """hidden, weight, bias, targets, from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    made = [
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((ROWS, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,))
    ]
    return (*made, torch.randint(0, VOCABULARY, (ROWS,), generator=generator))


def told(ids, weights=None, smoothing=0.0):
    """Targets of one token a row."""
    weights = torch.ones(len(ids)) if weights is None else weights
    return Targets(ids, torch.arange(len(ids)), weights, smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_value_and_gradients_are_those_of_torch(smoothing, with_bias, weighted):
    hidden, weight, bias, targets = inputs(torch.float32)
    weights = torch.linspace(-1, 2, ROWS) if weighted else None
    parts = [hidden, weight, bias] if with_bias else [hidden, weight]
    found = chunked_cross_entropy(
        hidden, OutputLayer(weight, bias if with_bias else None), told(targets, weights, smoothing)
    )
    exact = [part.detach().double().requires_grad_() for part in parts]
    losses = F.cross_entropy(F.linear(*exact), targets, reduction="none", label_smoothing=smoothing)
    expected = losses @ weights.double() if weighted else losses.sum()
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    for got, wanted in zip(
        torch.autograd.grad(found / 7, parts), torch.autograd.grad(expected / 7, exact), strict=True
    ):
        error = (got - wanted).norm() / wanted.norm()
        assert error < 1e-6


@pytest.mark.parametrize(("smoothing", "share"), [(0.0, 0.3), (0.1, 0.6), (0.0, 1.0)])
def test_what_teachers_expect_is_part_of_the_target(smoothing, share):
    hidden, weight, bias, targets = inputs(torch.float32)
    generator = torch.Generator().manual_seed(2)
    probabilities = torch.randn(9, VOCABULARY, generator=generator).mul(3).softmax(-1)
    rows = torch.randint(0, 9, (ROWS,), generator=generator)
    weights = torch.linspace(-1, 2, ROWS)
    taught = Taught(probabilities, share)
    found = chunked_cross_entropy(
        hidden[:9], OutputLayer(weight, bias), Targets(targets, rows, weights, smoothing, taught)
    )
    exact = [part.detach().double().requires_grad_() for part in (hidden, weight, bias)]
    wanted_of = (1 - smoothing - share) * F.one_hot(targets, VOCABULARY).double()
    wanted_of = wanted_of + smoothing / VOCABULARY + share * probabilities[rows].double()  # (N, V)
    logits = F.linear(exact[0][:9], *exact[1:])[rows]
    expected = F.cross_entropy(logits, wanted_of, reduction="none") @ weights.double()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    parts = [hidden, weight, bias]
    for got, wanted in zip(
        torch.autograd.grad(found, parts), torch.autograd.grad(expected, exact), strict=True
    ):
        assert (got - wanted).norm() < 1e-6 * wanted.norm()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_row_may_predict_several_tokens(smoothing):
    hidden, weight, bias, targets = inputs(torch.float32)
    rows = torch.randint(0, 9, (ROWS,), generator=torch.Generator().manual_seed(1))
    weights = torch.linspace(-1, 2, ROWS)
    found = chunked_cross_entropy(
        hidden[:9], OutputLayer(weight, bias), Targets(targets, rows, weights, smoothing)
    )
    apart = chunked_cross_entropy(
        hidden[rows], OutputLayer(weight, bias), told(targets, weights, smoothing)
    )
    torch.testing.assert_close(found, apart, rtol=1e-6, atol=0)
    parts = [hidden, weight, bias]
    for got, wanted in zip(
        torch.autograd.grad(found, parts), torch.autograd.grad(apart, parts), strict=True
    ):
        assert (got - wanted).norm() < 1e-6 * wanted.norm()


def test_logits_far_apart_keep_an_exact_loss():
    hidden = torch.tensor([[1.0], [-1.0]])
    weight = torch.tensor([[0.0], [400.0]], requires_grad=True)  # softmax rounds one to 0
    loss = chunked_cross_entropy(hidden, OutputLayer(weight), told(torch.tensor([0, 0])))
    assert loss.item() == 400


def test_words_that_are_ruled_out_change_nothing():
    """Whole parts of the vocabulary, of which the first has no highest logit then."""
    hidden, weight, bias, targets = inputs(torch.float32)
    allowed = slice(20, 41)  # of parts of 16
    out = bias.detach().clone()
    out[: allowed.start] = out[allowed.stop :] = -torch.inf
    targets = targets % 21
    found = chunked_cross_entropy(hidden, OutputLayer(weight, out), told(targets + allowed.start))
    expected = chunked_cross_entropy(
        hidden, OutputLayer(weight[allowed], bias[allowed]), told(targets)
    )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    for got, wanted in zip(
        torch.autograd.grad(found, [hidden, weight]),
        torch.autograd.grad(expected, [hidden, weight]),
        strict=True,
    ):
        assert (got - wanted).norm() < 1e-6 * wanted.norm()


@pytest.mark.parametrize("rising", [True, False])
def test_highest_logits_that_come_late_or_early_keep_all_gradients(rising):
    """Each part's lie 60 above or below those before, up to 180, which float32 holds to 1e-5."""
    hidden, weight, _, targets = inputs(torch.float32)
    steps = torch.arange(VOCABULARY) // 16 * (60.0 if rising else -60.0)
    found = chunked_cross_entropy(hidden, OutputLayer(weight, steps), told(targets))
    exact = [t.detach().double().requires_grad_() for t in (hidden, weight)]
    expected = F.cross_entropy(F.linear(*exact, steps.double()), targets, reduction="sum")
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    for got, wanted in zip(
        torch.autograd.grad(found, [hidden, weight]),
        torch.autograd.grad(expected, exact),
        strict=True,
    ):
        assert (got - wanted).norm() < 1e-5 * wanted.norm()


def test_a_frozen_weight_gets_no_gradient():
    hidden, weight, _, targets = inputs(torch.float32)
    chunked_cross_entropy(
        hidden, OutputLayer(weight.requires_grad_(False)), told(targets)
    ).backward()
    assert weight.grad is None
    assert hidden.grad.abs().sum() > 0


def test_bf16_products_keep_a_float32_loss_near_the_exact_one():
    hidden, weight, _, targets = inputs(torch.float32)
    matrix = weight.detach().bfloat16()
    found = chunked_cross_entropy(hidden, OutputLayer(weight, matrix=matrix), told(targets))
    exact = F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=5e-3)
    found.backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32


@pytest.mark.parametrize("rows", [3, ROWS])
def test_a_weight_cast_part_by_part_is_a_copy_of_it(rows):
    """Of one chunk of rows, and of several."""
    hidden, weight, bias, targets = inputs(torch.float32)
    found, expected = (
        chunked_cross_entropy(hidden[:rows], layer, told(targets[:rows], smoothing=0.1))
        for layer in (
            OutputLayer(weight, bias, dtype=torch.bfloat16),
            OutputLayer(weight, bias, weight.detach().bfloat16()),
        )
    )
    assert torch.equal(found, expected)
    wanted = [hidden, weight, bias]
    for got, copied in zip(
        torch.autograd.grad(found, wanted), torch.autograd.grad(expected, wanted), strict=True
    ):
        assert torch.equal(got, copied)


def test_bf16_products_keep_a_small_loss_among_logits_far_from_zero():
    """As GPT-2's are: one of -80 is rounded to a quarter, all of a row alike."""
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(ROWS, WIDTH, generator=generator)
    weight = F.normalize(torch.randn(VOCABULARY, WIDTH, generator=generator))
    ids = torch.randint(0, VOCABULARY, (ROWS,), generator=generator)
    hidden += 30 * weight[ids]
    hidden[:, 0], weight[:, 0] = 10, -9
    hidden, weight = (t.bfloat16().float().requires_grad_() for t in (hidden, weight))
    found = chunked_cross_entropy(
        hidden, OutputLayer(weight, matrix=weight.detach().bfloat16()), told(ids)
    )
    rounded = F.linear(hidden.detach().bfloat16(), weight.detach().bfloat16()).double()
    expected = F.cross_entropy(rounded, ids, reduction="sum")
    assert rounded.mean() < -70
    assert expected < 0.1 * ROWS
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    exact = rounded.softmax(dim=1) - F.one_hot(ids, VOCABULARY)
    [gradient] = torch.autograd.grad(found, hidden)
    wanted = exact @ weight.detach().double()
    assert (gradient - wanted).norm() < 0.05 * wanted.norm()


def test_no_logits_of_all_rows_exist(monkeypatch):
    seen = []
    original = cross_entropy.linear

    def spy(rows, weight):
        seen.append((len(rows), len(weight)))
        return original(rows, weight)

    monkeypatch.setattr(cross_entropy, "linear", spy)
    hidden, weight, _, targets = inputs(torch.float32)
    with torch.no_grad():
        chunked_cross_entropy(hidden, OutputLayer(weight), told(targets))
    assert max(rows for rows, _ in seen) == 5
    assert max(words for _, words in seen) == 16
    assert sum(rows * words for rows, words in seen) == ROWS * VOCABULARY


def test_second_backward_is_refused_not_wrong():
    hidden, weight, _, targets = inputs(torch.float32)
    loss = chunked_cross_entropy(hidden, OutputLayer(weight), told(targets))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_no_captions_are_a_loss_of_zero():
    hidden, weight, _, targets = inputs(torch.float32)
    loss = chunked_cross_entropy(hidden[:0], OutputLayer(weight), told(targets[:0]))
    assert loss.item() == 0
