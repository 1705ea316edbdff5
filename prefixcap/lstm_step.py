"""An LSTM captioner one word at a time, for many images and beams."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prefixcap.lstm_networks import Grid, Memory, Network, advance, stacked_cells
from prefixcap.packed_linear import fast_linear, parameter_versions


@dataclass
class LstmState:
    """Memory (L, B * W, H) of W captions of each of B images, and the images' grids."""

    memory: Memory
    grid: Grid | None
    width: int

    @torch.inference_mode()
    def reorder(self, parents: Tensor) -> None:
        """Caption w of each image continues caption `parents[:, w]`; (B, W)."""
        first = torch.arange(len(parents), device=parents.device)[:, None] * self.width
        self.memory = self.memory.of((first + parents).flatten())  # (L, B * W, H)

    @torch.inference_mode()
    def keep(self, images: Tensor) -> None:
        """Only the images at these places of the batch stay, in this order."""
        beams = torch.arange(self.width, device=images.device)
        self.memory = self.memory.of((images[:, None] * self.width + beams).flatten())
        if self.grid is not None:
            self.grid = self.grid.of(images)


class LstmStepper:
    """start and step of a network; copies of its weights are made anew when they have changed.

    Args:
        network: the network.
        start_id: the token that is read before the first word.
        never_written: tokens that no caption gets.
    """

    def __init__(self, network: Network, start_id: int, never_written: tuple[int, ...]) -> None:
        self.network = network
        self.start_id = start_id
        self.never_written = list(never_written)
        self._seen: list | None = None

    def start(self, embeddings: Tensor, width: int) -> tuple[Tensor, LstmState]:
        """Logits (B, V) float32 of the first word for embeddings (B, D) or (B, N, D), and state."""
        self._arrange()
        network, images = self.network, len(embeddings)
        state = LstmState(network.first(embeddings), network.grid(embeddings), 1)
        first = torch.full((images, 1), self.start_id, device=embeddings.device)
        logits = self.step(first, state)[:, 0]  # (B, V)
        rows = torch.arange(images, device=embeddings.device).repeat_interleave(width)
        state.memory, state.width = state.memory.of(rows), width
        return logits, state

    def step(self, ids: Tensor, state: LstmState) -> Tensor:
        """Logits (B, W, V) float32 of the word after `ids` (B, W) int64; the state moves on."""
        words = self.network.words(ids)  # (B, W, E)
        told, state.memory, _ = advance(self.network, self._cells, words, state.memory, state.grid)
        logits = self._output(told).float()
        logits[..., self.never_written] = -torch.inf
        return logits

    def attention(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """Attention (T, N) float32 for each of the tokens `ids` (T,), embeddings (1, ...)."""
        self._arrange()
        network = self.network
        state = LstmState(network.first(embeddings), network.grid(embeddings), 1)
        inputs = torch.cat([ids.new_tensor([self.start_id]), ids[:-1]])  # (T,)
        rows = []
        for words in network.words(inputs)[:, None, None]:  # (1, 1, E)
            _, state.memory, weights = advance(
                network, self._cells, words, state.memory, state.grid
            )
            rows.append(weights[0, 0])  # (N,)
        return torch.stack(rows)

    def _arrange(self) -> None:
        """Copies of the large matrices, in the layout that they are multiplied fastest in."""
        versions = parameter_versions(self.network)
        if versions != self._seen:
            cells = stacked_cells(self.network.lstm)
            self._cells = [fast_linear(cell.weight, cell.bias) for cell in cells]
            self._output = fast_linear(self.network.output.weight, self.network.output.bias)
            self._seen = versions
