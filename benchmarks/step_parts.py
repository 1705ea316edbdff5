"""What parts of a training step take beside what they stand for: GPT-2 small's sizes, on a CPU.

    OMP_NUM_THREADS=1 python benchmarks/step_parts.py [--rounds 7] [--quick]

In bf16 where nothing else is said. Each round runs a part and what it stands for in turns; the
clock counts this process's CPU seconds, and figures are medians. The last row takes whole steps,
with GPT-2 tuned, in processes of their own.
"""

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date

import torch
import torch.nn.functional as F
import training
from torch import Tensor
from torch.optim.adamw import adamw

from prefixcap.cross_entropy import OutputLayer, chunked_cross_entropy
from prefixcap.loss_targets import Targets
from prefixcap.memory import keep_freed_memory
from prefixcap.packed_attention import Attention, Layout
from prefixcap.packed_rows import pack
from prefixcap.products import FEW, linear
from prefixcap.row_steps import rows_of
from prefixcap.tanh_gelu import tanh_gelu_
from prefixcap.tokenizer import IGNORED

Part = tuple[str, str, Callable[[], object], Callable[[], object]]  # name, instead of, that, ours

PLACES, PREDICTING = 498, 426  # of 40 captions that share 8 prefixes
BLOCK = 1 << 17  # weights that are stepped at a time, where their gradients are converted in blocks
PAGES = ("small", "large")  # in which a step's memory lies
PROCESSES, STEPS = 3, 5  # for each of them, in turns; of which the medians count
UNLIMITED = 1 << 46  # bytes of addresses: a limit, which turns the advice of large pages off


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all")
    parser.add_argument("--step", choices=PAGES, help=argparse.SUPPRESS)  # a child
    arguments = parser.parse_args()
    if arguments.step:
        print(seconds_of_step(arguments.step, arguments.quick))
        return
    keep_freed_memory()
    lm = (training.QUICK if arguments.quick else training.REAL).lm
    print(f"{date.today()}, {platform.machine()}, torch {torch.__version__}\n")
    print("| part | instead of | ms | ms before | times as fast |\n|---|---|---|---|---|")
    for name, other, before, ours in parts(lm["width"], lm["heads"], lm["vocabulary"]):
        print_row(name, other, *medians(before, ours, arguments.rounds))
    turns = range(1 if arguments.quick else PROCESSES)
    pairs = [[measured_step(pages, arguments.quick) for pages in PAGES] for _ in turns]
    small, large = map(statistics.median, zip(*pairs, strict=True))
    print_row("a step, GPT-2 tuned, in large pages", "small pages", small, large)


def print_row(name: str, other: str, before: float, ours: float) -> None:
    """One row of the table, of seconds."""
    print(
        f"| {name} | {other} | {ours * 1e3:.2f} | {before * 1e3:.2f} | {before / ours:.2f} |",
        flush=True,
    )


def parts(width: int, heads: int, vocabulary: int) -> list[Part]:
    """Each part at these sizes, and what it stands for."""
    return [
        gelu(4 * width),
        *(attention(captions, width, heads) for captions in (5, 1)),
        *(cross_entropy(width, vocabulary, trained) for trained in (False, True)),
        weight_gradient(width),
        *(few_rows(width, count) for count in (training.IMAGES, FEW)),
        biased_product(width),
        float32_product(width),
        adam(width, vocabulary),
    ]


def gelu(width: int) -> Part:
    """GELU in its tanh form, forward and backward."""
    x = torch.randn(PLACES, width).bfloat16().requires_grad_()
    pull = torch.randn_like(x)

    def both(function: Callable[[Tensor], Tensor]) -> object:
        return torch.autograd.grad(
            function(x.clone()), x, pull
        )  # ours writes over what it is given

    name = f"GELU and its derivative, {PLACES} x {width}"
    return (
        name,
        "F.gelu",
        lambda: both(lambda v: F.gelu(v, approximate="tanh")),
        lambda: both(tanh_gelu_),
    )


def attention(captions: int, width: int, heads: int) -> Part:
    """Attention over packed rows, forward and backward, between lists of filled places."""
    count = 40
    ids = torch.zeros(count, 17, dtype=torch.int64)
    lengths = torch.randint(8, 18, (count,), generator=torch.Generator().manual_seed(0))
    ids[torch.arange(17) >= lengths[:, None]] = IGNORED
    rows = pack(ids, torch.arange(count) // captions, 10, shared=captions > 1)
    qkv = torch.randn(len(rows.places), 3 * width).bfloat16().requires_grad_()
    layout, pull = Layout(rows, torch.bfloat16, heads), torch.randn(len(qkv), width).bfloat16()
    bias = layout.bias.to(torch.bfloat16).clamp(min=torch.finfo(torch.bfloat16).min / 2)
    scale = (width // heads) ** -0.5

    def plain() -> Tensor:
        grid = qkv.new_zeros(len(layout.of_place), qkv.shape[1])
        grid = grid.index_copy(0, rows.places, qkv).view(*layout.shape, 3, heads, -1)
        queries, keys, values = grid.permute(2, 0, 3, 1, 4)
        weights = ((queries * scale) @ keys.mT + bias).softmax(dim=-1)
        return (weights @ values).transpose(1, 2).flatten(2).flatten(0, 1)[rows.places]

    def ours() -> Tensor:
        return Attention.apply(qkv, layout, layout.filled, scale)

    name = f"attention, {layout.shape[0]} rows of {layout.shape[1]}"
    return (
        name,
        "products and softmax",
        lambda: torch.autograd.grad(plain(), qkv, pull),
        lambda: torch.autograd.grad(ours(), qkv, pull),
    )


def cross_entropy(width: int, vocabulary: int, trained: bool) -> Part:
    """Loss of the output layer, forward and backward."""
    hidden = torch.randn(PREDICTING, width).requires_grad_()
    weight = (0.02 * torch.randn(vocabulary, width)).requires_grad_(trained)
    ids = torch.randint(0, vocabulary, (PREDICTING,))
    targets = Targets(ids, torch.arange(PREDICTING), torch.ones(PREDICTING))
    matrix, wanted = weight.detach().bfloat16(), [hidden, weight] if trained else [hidden]

    def plain() -> Tensor:
        logits = F.linear(hidden.bfloat16(), weight.bfloat16() if trained else matrix)
        return F.cross_entropy(logits.float(), ids, reduction="sum")

    def ours() -> Tensor:
        layer = OutputLayer(weight, None, None if trained else matrix, torch.bfloat16)
        return chunked_cross_entropy(hidden, layer, targets)

    name = f"cross-entropy, vocabulary {'trained' if trained else 'frozen'}"
    return (
        name,
        "F.cross_entropy",
        lambda: torch.autograd.grad(plain(), wanted),
        lambda: torch.autograd.grad(ours(), wanted),
    )


def weight_gradient(width: int) -> Part:
    """Product that gives a layer's gradient."""
    x, pull = torch.randn(PLACES, width).bfloat16(), torch.randn(PLACES, 4 * width).bfloat16()
    return (
        f"gradient of a {width} x {4 * width} weight, transpose copied",
        "the transpose itself",
        lambda: F.linear(x.t(), pull.t()),
        lambda: F.linear(x.t().contiguous(), pull.t()),
    )


def few_rows(width: int, count: int) -> Part:
    """Gradient of an MLP's last layer, of one image a row."""
    x, pull = torch.randn(count, 5 * width), torch.randn(count, 10 * width)
    low, low_pull = x.bfloat16(), pull.bfloat16()

    def rounded() -> None:
        found = F.linear(low_pull.t().contiguous(), low.t())
        for rows in rows_of(len(found)):
            found[rows].float()

    def exact() -> None:
        for rows in rows_of(10 * width):
            F.linear(pull[:, rows].t(), x.t())

    name = f"gradient of a {10 * width} x {5 * width} weight from {count} rows, in fp32"
    return name, "converted from bf16", rounded, exact


def biased_product(width: int) -> Part:
    """A trained layer's product, with its bias."""
    x, bias = torch.randn(PLACES, width).bfloat16(), torch.randn(4 * width).bfloat16()
    weight = torch.randn(width, 4 * width).bfloat16().t()  # as GPT-2 stores it
    return (
        f"product of {PLACES} rows and a {width} x {4 * width} weight, bias within",
        "F.linear",
        lambda: F.linear(x, weight, bias),
        lambda: linear(x, weight, bias),
    )


def float32_product(width: int) -> Part:
    """Product in float32, as PyTorch has it beside oneDNN's."""
    x, weight = torch.randn(PLACES, width), torch.randn(4 * width, width)
    return (
        "float32 product, MKL",
        "oneDNN",
        lambda: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], ""),
        lambda: F.linear(x, weight),
    )


def adam(width: int, vocabulary: int) -> Part:
    """AdamW's step of a weight whose gradient is in bf16."""
    weight, mean, square = (torch.rand(vocabulary, width) for _ in range(3))
    gradient, steps = torch.randn(vocabulary, width).bfloat16(), torch.tensor(3.0)

    def step(part: slice, found: Tensor) -> None:
        adamw(
            *([t.view(-1)[part]] for t in (weight,)),
            [found],
            [mean.view(-1)[part]],
            [square.view(-1)[part]],
            [],
            [steps.clone()],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=1e-5,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def in_blocks() -> None:
        for start in range(0, weight.numel(), BLOCK):
            part = slice(start, start + BLOCK)
            step(part, gradient.view(-1)[part].float())

    name = "AdamW, gradient converted as a whole"
    return name, "in blocks", in_blocks, lambda: step(slice(None), gradient.view(-1).float())


def medians(
    before: Callable[[], object], ours: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """Median seconds of both, run in turns after a round that is not counted."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for found, run in zip(seconds, (before, ours), strict=True):
            began = time.process_time()
            run()
            if number:
                found.append(time.process_time() - began)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def measured_step(pages: str, quick: bool) -> float:
    """Seconds of a training step in a process with pages of that size."""
    command = [sys.executable, __file__, "--step", pages, *(["--quick"] if quick else [])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def seconds_of_step(pages: str, quick: bool) -> float:
    """Median seconds of warm steps with GPT-2 tuned."""
    if pages == "small":
        resource.setrlimit(resource.RLIMIT_AS, (UNLIMITED, UNLIMITED))
    keep_freed_memory()
    arguments = argparse.Namespace(device="cpu", quick=quick)
    model, batch = training.model_of("tuned", arguments), training.batch_of(arguments)
    *_, step = training.our_steps(model, batch, arguments).values()  # shared, in what is fast
    for _ in range(training.WARM_ROUNDS):
        step()
    return statistics.median(training.seconds_of(step, "cpu") for _ in range(STEPS))


if __name__ == "__main__":
    main()
