"""The LSTM networks against the papers' equations, one caption at a time."""

import pytest
import torch
from torch import Tensor, nn

from prefixcap.lstm_networks import OrderedCaptions, ShowAttendTell, ShowTell, Standardize
from prefixcap.tokenizer import IGNORED
from tests.tiny_lstm import WIDTH, tiny_batch, tiny_lstm, tiny_model, words_of

START = 1


def layers_of(lstm: nn.LSTM) -> list[nn.LSTMCell]:
    """PyTorch's own cells with the weights of each layer."""
    cells = []
    for layer in range(lstm.num_layers):
        weights = {
            name: getattr(lstm, f"{name}_l{layer}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        cell = nn.LSTMCell(weights["weight_ih"].shape[1], lstm.hidden_size)
        cell.load_state_dict(weights)
        cells.append(cell)
    return cells


def stacked(cells: list[nn.LSTMCell], x: Tensor, states: list) -> tuple[Tensor, list]:
    """Output of the highest cell, and the cells' states, after one input (I,)."""
    after = []
    for cell, state in zip(cells, states, strict=True):
        after.append(cell(x[None], state))
        x = after[-1][0][0]
    return x, after


def show_tell(network: ShowTell, embedding: Tensor, ids: list[int]) -> Tensor:
    """Log-probabilities (T, V) of Vinyals et al.'s equations 10 to 12: image, <start>, words."""
    cells = layers_of(network.lstm)
    zeros = torch.zeros(1, network.lstm.hidden_size)
    _, states = stacked(cells, network.image(embedding), [(zeros, zeros)] * len(cells))
    rows = []
    for word in [START, *ids[:-1]]:
        out, states = stacked(cells, network.words.weight[word], states)
        rows.append(network.output(out))
    return torch.stack(rows).log_softmax(-1)


def show_attend_tell(
    network: ShowAttendTell, grid: Tensor, ids: list[int]
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (T, V) and attention (T, N) of Xu et al.'s equations 1 to 14."""
    cells, mean = layers_of(network.lstm), grid.mean(0)
    parts = [layer(mean).tanh() for layer in (network.first_hidden, network.first_cell)]
    size = network.lstm.hidden_size
    states = [
        tuple(part[n * size : (n + 1) * size][None] for part in parts) for n in range(len(cells))
    ]
    rows, looks = [], []
    for word in [START, *ids[:-1]]:
        before, embedded = states[-1][0][0], network.words.weight[word]
        scores = [network.score((network.key(a) + network.query(before)).tanh()) for a in grid]
        look = torch.cat(scores).softmax(0)
        context = sum(share * a for share, a in zip(look, grid, strict=True))
        if network.gate is not None:
            context = network.gate(before).sigmoid() * context
        out, states = stacked(cells, torch.cat([embedded, context]), states)
        deep = embedded + network.from_hidden(out) + network.from_context(context)
        rows.append(network.output(deep))
        looks.append(look)
    return torch.stack(rows).log_softmax(-1), torch.stack(looks)


def test_captions_are_ordered_by_length_and_read_from_start():
    ids = torch.tensor([[5, 6, IGNORED], [7, IGNORED, IGNORED], [8, 9, 4]])
    found = OrderedCaptions.of(ids, torch.tensor([0, 0, 3]), START, torch.tensor([1.0, 2.0, -3.0]))
    assert found.counts.tolist() == [3, 2, 1]
    assert found.inputs.tolist() == [START, START, START, 8, 5, 9]
    assert found.targets.tolist() == [8, 5, 7, 9, 6, 4]
    assert found.weights.tolist() == [-3, 1, 2, -3, 1, -3]
    assert found.image_rows.tolist() == [3, 0, 0]


@pytest.mark.parametrize("layers", [1, 3])
def test_show_and_tell_is_its_equations(layers: int):
    model = tiny_model(tiny_lstm(layers=layers))
    batch = tiny_batch(model)
    expected = 0.0
    for caption, image in enumerate(batch.image_rows.tolist()):
        ids = words_of(batch, caption)
        log_probs = show_tell(model.network, batch.embeddings[image], ids)
        expected -= log_probs.gather(1, torch.tensor(ids)[:, None]).sum()
    total, count = model.loss(batch)
    assert count == 16
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("layers", "gate"), [(1, True), (2, False)])
def test_show_attend_and_tell_is_its_equations(layers: int, gate: bool):
    model = tiny_model(
        tiny_lstm(attention=True, layers=layers, gate=gate, doubly_stochastic=0.7, dropout=0.0),
        patches=True,
    )
    batch = tiny_batch(model)
    expected = unevenness = 0.0
    for caption, image in enumerate(batch.image_rows.tolist()):
        ids = words_of(batch, caption)
        log_probs, looks = show_attend_tell(model.network, batch.embeddings[image], ids)
        expected -= log_probs.gather(1, torch.tensor(ids)[:, None]).sum()
        unevenness += (1 - looks.sum(0)).square().sum()
        torch.testing.assert_close(model.attention(batch.embeddings[image], ids), looks)
    torch.testing.assert_close(model.loss(batch)[0], expected, rtol=1e-5, atol=1e-4)
    expected += 0.7 * unevenness
    torch.testing.assert_close(model.train().loss(batch)[0], expected, rtol=1e-5, atol=1e-4)


def test_a_pooled_vector_leaves_attention_one_position():
    model = tiny_model(tiny_lstm(attention=True))
    looks = model.attention(torch.randn(WIDTH), [4, 5, 2])
    torch.testing.assert_close(looks, torch.ones(3, 1))


@pytest.mark.parametrize("attention", [False, True])
def test_every_weight_learns(attention: bool):
    model = tiny_model(tiny_lstm(attention=attention, layers=2), patches=attention).train()
    model.loss(tiny_batch(model))[0].backward()
    still = [n for n, p in model.network.named_parameters() if not p.grad.abs().sum()]
    assert still == []


@pytest.mark.parametrize("shape", [(50, WIDTH), (20, 6, WIDTH)])
def test_standardised_embeddings_have_mean_0_and_spread_1_however_they_came_in(shape):
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.01, 5, WIDTH)
    scale[-1] = 0  # a column that never varies stays finite
    embeddings = 7 + scale * torch.randn(shape, generator=generator)
    standard = Standardize(WIDTH)
    assert torch.equal(standard(embeddings), embeddings)
    standard.learn(embeddings.split(7))
    found = standard(embeddings).flatten(0, -2)
    torch.testing.assert_close(found.mean(0), torch.zeros(WIDTH), rtol=0, atol=1e-3)
    spread, varies = found.std(0, correction=0), scale > 0.1 * scale.mean() * 1.5
    torch.testing.assert_close(spread[varies], torch.ones(int(varies.sum())))
    assert spread.max() <= 1.001 and not found[:, -1].abs().max() > 1e-3
