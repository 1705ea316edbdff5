"""The two LSTM networks: Show and Tell, and Show, Attend and Tell with soft attention."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from prefixcap.config import LstmConfig
from prefixcap.loss_targets import Targets
from prefixcap.tokenizer import IGNORED

LEAST_SPREAD = 0.1  # of a column, in mean spreads of all


class Memory(NamedTuple):
    """What an LSTM of L layers remembers of R captions: `hidden` and `cell`, both (L, R, H)."""

    hidden: Tensor
    cell: Tensor

    def of(self, rows: Tensor | slice) -> "Memory":
        """The memory of some captions."""
        return Memory(self.hidden[:, rows], self.cell[:, rows])


@dataclass(frozen=True)
class Grid:
    """What attention looks at, computed once per image.

    Attributes:
        features: (B, N, D), the encoder's positions.
        keys: (B, N, A), the part of the attention's scores that no word changes.
    """

    features: Tensor
    keys: Tensor

    def of(self, images: Tensor | slice) -> "Grid":
        """The grids of some images."""
        return Grid(self.features[images], self.keys[images])


@dataclass(frozen=True)
class OrderedCaptions:
    """M captions, the longest first, as N tokens in the order of time: all first ones, and so on.

    Attributes:
        inputs: (N,) int64, what is read; `<start>` first.
        targets: (N,) int64, what follows each of them.
        counts: (T,) int64 on the CPU, captions that are still going at each step.
        image_rows: (M,) int64, the image of each caption.
        weights: (N,) float32 of the targets.
    """

    inputs: Tensor
    targets: Tensor
    counts: Tensor
    image_rows: Tensor
    weights: Tensor

    @classmethod
    def of(
        cls, ids: Tensor, image_rows: Tensor, start_id: int, weights: Tensor | None = None
    ) -> Self:
        """The captions `ids` (M, T) int64, right-padded with IGNORED, in that order.

        Args:
            ids: the captions.
            image_rows: (M,) int64, the image of each.
            start_id: the token before the first.
            weights: (M,) float, one per caption; None: all 1.
        """
        lengths = (ids != IGNORED).sum(dim=1)  # (M,)
        order = lengths.argsort(descending=True, stable=True)
        ids, last = ids[order], int(lengths.max())
        going = ids[:, :last].T != IGNORED  # (T, M)
        before = F.pad(ids[:, : last - 1], (1, 0), value=start_id)  # (M, T)
        of_captions = (
            torch.ones(len(ids), device=ids.device) if weights is None else weights.float()
        )
        return cls(
            inputs=before.T[going],
            targets=ids[:, :last].T[going],
            counts=going.sum(dim=1).cpu(),
            image_rows=image_rows[order],
            weights=of_captions[order].expand_as(going)[going],
        )

    def predicted(self, smoothing: float) -> Targets:
        """What the N outputs should predict."""
        rows = torch.arange(len(self.targets), device=self.targets.device)
        return Targets(self.targets, rows, self.weights, smoothing)


class Standardize(nn.Module):
    """Embeddings less the mean of many images, in units of their spread; as they are until told.

    CNN features are positive and share a large mean, CLIP's normalised ones are small. An LSTM's
    gates saturate on the first and hardly see the second.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def learn(self, parts: Iterable[Tensor]) -> None:
        """Take mean and spread of each of the D columns of embeddings (B, D) or (B, N, D).

        A column that hardly varies counts as one of a tenth of the columns' mean spread.
        """
        count, total, squares = 0, 0.0, 0.0
        for part in parts:
            rows = part.detach().flatten(0, -2).double()  # (B * N, D)
            count, total, squares = (
                count + len(rows),
                total + rows.sum(0),
                squares + (rows**2).sum(0),
            )
        mean = total / count  # (D,)
        spread = (squares / count - mean**2).clamp(min=0).sqrt()
        least = LEAST_SPREAD * spread.mean()
        self.mean.copy_(mean)
        self.spread.copy_(spread.clamp(min=least) if least > 0 else torch.ones_like(spread))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Standardised embeddings, of the same shape."""
        return (embeddings - self.mean) / self.spread


class ShowTell(nn.Module):
    """LSTM whose first input is the image (Vinyals et al. 2015, section 3.1)."""

    def __init__(self, config: LstmConfig, embedding_dim: int, vocabulary: int) -> None:
        super().__init__()
        width, layers = config.embedding_size, config.layers
        self.standard = Standardize(embedding_dim) if config.standardize else nn.Identity()
        self.image = nn.Linear(embedding_dim, width)
        self.words = nn.Embedding(vocabulary, width)
        between = config.dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(width, config.hidden_size, layers, dropout=between)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden_size, vocabulary)

    def grid(self, embeddings: Tensor) -> None:
        """Nothing: the image is seen once, before the first word."""

    def first(self, embeddings: Tensor) -> Memory:
        """Memory of B captions that have seen their images (B, D) and no word."""
        return Memory(*self.lstm(self.image(embeddings)[None])[1])

    def read(self, embeddings: Tensor, captions: OrderedCaptions) -> tuple[Tensor, Tensor | None]:
        """What the output layer takes after each input, (N, H); no attention weights."""
        memory = self.first(embeddings).of(captions.image_rows)
        words = PackedSequence(self.words(captions.inputs), captions.counts)
        return self.dropout(self.lstm(words, memory)[0].data), None

    def inputs(self, words: Tensor, hidden: Tensor, grid: None) -> tuple[Tensor, None, None]:
        """Input of the lowest layer (B, W, E) for words (B, W, E); no context, no attention."""
        return words, None, None

    def told(self, words: Tensor, hidden: Tensor, context: None) -> Tensor:
        """What the output layer takes, (B, W, H): the highest layer's output."""
        return self.dropout(hidden)


class ShowAttendTell(nn.Module):
    """LSTM that looks at the image's positions anew for each word (Xu et al. 2015).

    Soft attention with the gate of section 4.2.1 and the deep output of equation 7. Several layers
    are stacked; the highest one's output chooses where to look.
    """

    def __init__(self, config: LstmConfig, embedding_dim: int, vocabulary: int) -> None:
        super().__init__()
        width, hidden, layers = config.embedding_size, config.hidden_size, config.layers
        self.standard = Standardize(embedding_dim) if config.standardize else nn.Identity()
        self.first_hidden = nn.Linear(embedding_dim, layers * hidden)
        self.first_cell = nn.Linear(embedding_dim, layers * hidden)
        self.key = nn.Linear(embedding_dim, config.attention_size)
        self.query = nn.Linear(hidden, config.attention_size, bias=False)
        self.score = nn.Linear(config.attention_size, 1, bias=False)
        self.gate = nn.Linear(hidden, 1) if config.gate else None
        self.words = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width + embedding_dim, hidden, layers)
        self.from_hidden = nn.Linear(hidden, width)
        self.from_context = nn.Linear(embedding_dim, width, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(width, vocabulary)
        self.layers = layers

    def grid(self, embeddings: Tensor) -> Grid:
        """What attention looks at in embeddings (B, N, D), or in the one position of (B, D)."""
        features = embeddings if embeddings.ndim == 3 else embeddings[:, None]  # (B, N, D)
        return Grid(features, self.key(features))

    def first(self, embeddings: Tensor) -> Memory:
        """Memory of B captions without a word, from the mean of their images' positions."""
        mean = embeddings if embeddings.ndim == 2 else embeddings.mean(dim=1)  # (B, D)
        parts = (self.first_hidden(mean).tanh(), self.first_cell(mean).tanh())  # (B, L * H)
        return Memory(*(p.unflatten(1, (self.layers, -1)).transpose(0, 1) for p in parts))

    def read(self, embeddings: Tensor, captions: OrderedCaptions) -> tuple[Tensor, Tensor]:
        """What the output layer takes after each input, (N, E), and what was attended to (M, N).

        The second is, for each caption and position, the sum of the attention over its words.
        """
        grid = self.grid(embeddings).of(captions.image_rows)
        memory = self.first(embeddings).of(captions.image_rows)
        attended = grid.keys.new_zeros(grid.keys.shape[:2], dtype=torch.float32)  # (M, N)
        cells = stacked_cells(self.lstm)
        outputs = []
        for words in self.words(captions.inputs).split(captions.counts.tolist()):  # (m, E)
            if len(words) < len(grid.keys):
                memory, grid = memory.of(slice(len(words))), grid.of(slice(len(words)))
            out, memory, weights = advance(self, cells, words[:, None], memory, grid)
            outputs.append(out[:, 0])  # (m, E)
            attended = attended + F.pad(weights[:, 0], (0, 0, 0, len(attended) - len(words)))
        return torch.cat(outputs), attended

    def inputs(self, words: Tensor, hidden: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
        """Input of the lowest layer (B, W, E + D), the context (B, W, D), the attention (B, W, N).

        Args:
            words: (B, W, E), the words that are read.
            hidden: (B, W, H), the highest layer's output before them.
            grid: of the B images.
        """
        sums = grid.keys[:, None] + self.query(hidden)[:, :, None]  # (B, W, N, A)
        weights = self.score(sums.tanh()).squeeze(-1).float().softmax(dim=-1)  # (B, W, N)
        context = weights.to(grid.features.dtype) @ grid.features  # (B, W, D)
        if self.gate is not None:
            context = self.gate(hidden).sigmoid() * context
        return torch.cat([words, context.to(words.dtype)], dim=-1), context, weights

    def told(self, words: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        """What the output layer takes, (B, W, E), from word, output and context (equation 7)."""
        return self.dropout(words + self.from_hidden(hidden) + self.from_context(context))


Network = ShowTell | ShowAttendTell


def build_network(config: LstmConfig, embedding_dim: int, vocabulary: int) -> Network:
    """Network with random weights of the sizes in `config`."""
    kind = ShowAttendTell if config.attention else ShowTell
    return kind(config, embedding_dim, vocabulary)


@dataclass(frozen=True)
class Cell:
    """One layer of an LSTM, from [input, hidden] (..., I + H) to its gates (..., 4H)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Gates (..., 4H)."""
        return F.linear(x, self.weight, self.bias)


def stacked_cells(lstm: nn.LSTM) -> list[Cell]:
    """The layers of an LSTM, with the weights on input and hidden state side by side."""
    cells = []
    for layer in range(lstm.num_layers):
        on_input, on_hidden, bias, second = (
            getattr(lstm, f"{name}_l{layer}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        cells.append(Cell(torch.cat([on_input, on_hidden], dim=1), bias + second))
    return cells


def advance(
    network: Network, cells: list, words: Tensor, memory: Memory, grid: Grid | None
) -> tuple[Tensor, Memory, Tensor | None]:
    """What the output layer takes (B, W, O), the memory (L, B * W, H), the attention (B, W, N).

    Args:
        network: the network.
        cells: its layers, from `stacked_cells`, or anything that maps [input, hidden] to gates.
        words: (B, W, E), the word that each of W captions of B images reads.
        memory: of the B * W captions, image-major.
        grid: of the B images, where the network attends.
    """
    beams = words.shape[:2]
    top = memory.hidden[-1].unflatten(0, beams)  # (B, W, H)
    x, context, weights = network.inputs(words, top, grid)
    x = x.flatten(0, 1)  # (B * W, I)
    layers = []
    for cell, hidden, kept in zip(cells, *memory, strict=True):
        gates = cell(torch.cat([x, hidden.to(x.dtype)], dim=1)).float()  # (B * W, 4H)
        enters, forgets, new, leaves = gates.chunk(4, dim=1)
        kept = forgets.sigmoid() * kept + enters.sigmoid() * new.tanh()
        x = (leaves.sigmoid() * kept.tanh()).to(words.dtype)  # (B * W, H)
        layers.append((x, kept))
    memory = Memory(*(torch.stack(parts) for parts in zip(*layers, strict=True)))
    return network.told(words, x.unflatten(0, beams), context), memory, weights
