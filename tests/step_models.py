"""Small models to step: a toy whose logits depend on the whole history, and tiny GPT-2s."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

WIDTH = 24


@dataclass
class ToyState:
    """Sum of the embeddings of everything that each hypothesis has seen, (B, W, D)."""

    memory: Tensor

    def reorder(self, parents: Tensor) -> None:
        pairs = zip(self.memory, parents, strict=True)
        self.memory = torch.stack([memory[own] for memory, own in pairs])

    def keep(self, images: Tensor) -> None:
        self.memory = self.memory[images]


class ToyModel:
    """Logits tanh(source + sum of position-weighted token vectors) times an output matrix."""

    def __init__(self, vocabulary: int, seed: int = 0, sharpness: float = 2.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randn(vocabulary, WIDTH, generator=generator)
        self.output = sharpness * torch.randn(WIDTH, vocabulary, generator=generator) / WIDTH**0.5
        self.vocabulary = vocabulary
        self.rows_stepped: list[int] = []

    def start(self, source: Tensor, width: int, max_tokens: int) -> tuple[Tensor, ToyState]:
        logits = source.tanh() @ self.output
        return logits, ToyState(source[:, None].repeat(1, width, 1))

    def step(self, ids: Tensor, state: ToyState) -> Tensor:
        self.rows_stepped.append(len(ids))
        state.memory = 1.3 * state.memory + self.tokens[ids]
        return state.memory.tanh() @ self.output

    def log_probs(self, source: Tensor, ids: list[int]) -> Tensor:
        """Log-probabilities (V,) after the tokens `ids`, computed apart from start and step."""
        memory = source.clone()
        for token in ids:
            memory = 1.3 * memory + self.tokens[token]
        return (memory.tanh() @ self.output).log_softmax(dim=-1)


def sources(count: int, seed: int = 1, width: int = WIDTH) -> Tensor:
    """What `count` images start from, (count, width)."""
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def prefixes(count: int, length: int = 4, seed: int = 1, width: int = 32) -> Tensor:
    """Prefixes (count, length, width) for `tiny_gpt2`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, length, width, generator=generator)


def tiny_gpt2(seed: int = 0, vocabulary: int = 61, **settings: object) -> GPT2LMHeadModel:
    """A random GPT-2 of width 32 whose distributions are sharp enough to have clear winners."""
    torch.manual_seed(seed)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **settings}
    config = GPT2Config(vocab_size=vocabulary, bos_token_id=0, eos_token_id=0, **sizes)
    lm = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, weight in lm.named_parameters():
            if weight.ndim == 2:
                weight.mul_(12.0 if "wte" in name else 4.0)
            elif name.endswith("bias"):
                weight.normal_(std=0.2)
    return lm


def uncached_logits(lm: torch.nn.Module, prefix: Tensor, ids: list[int]) -> Tensor:
    """Logits (V,) after a prefix (P, D) and the tokens `ids`: one whole forward of transformers."""
    words = lm.get_input_embeddings()(torch.tensor(ids, dtype=torch.int64))  # (t, D)
    embedded = torch.cat([prefix, words])[None]  # (1, P + t, D)
    with torch.no_grad():
        return lm(inputs_embeds=embedded, use_cache=False).logits[0, -1]
