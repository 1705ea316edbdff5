"""Seconds and memory of a training step beside the original's: GPT-2 small at its real size.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--device cuda] [--rounds 3] [--quick]

Random weights, embeddings of 512, a prefix of 10; a step has 40 captions, five of each of 8 images,
of 11.4 tokens in the mean. Each round runs every variant once, beside the others, so that a busy
machine slows each alike; the slow original takes part in two rounds only. Two rounds before them
are not counted: until then memory is still being asked for. Ratios are of medians. On a CPU the
clock counts a process's CPU seconds, on a GPU wall-clock seconds.

"original, fp32" is the original as its users run it, in a process of its own with the C library's
settings. All others keep freed memory, as `prefixcap train` does, unless --fresh-memory is given;
the second row, on a CPU, is the original with that alone. Where bf16 is not fast, as on processors
without it in hardware, its rows are left out: one of its steps takes minutes.

"Of ceiling" is the share of a step that its matrix products would take at the machine's best rate
in that precision, measured beside it; "at most" is the ratio to the original at that ceiling.
"""

import argparse
import copy
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from training_baseline import PADDED, OriginalStep

from prefixcap.config import EncoderConfig, LanguageModelConfig, MapperConfig, ModelConfig
from prefixcap.mapper import MapperMLP
from prefixcap.memory import keep_freed_memory
from prefixcap.model import CaptionBatch, ClipCap
from prefixcap.optim import build_optimizer, stepping_in_backward
from prefixcap.pace import peak_mib
from prefixcap.precision import bf16_is_fast
from prefixcap.products import linear
from prefixcap.recipe import TrainConfig
from prefixcap.tokenizer import IGNORED, train_bpe

IMAGES, CAPTIONS = 8, 5
MEAN_TOKENS, DEVIATION = 11.4, 2.4  # of COCO's captions in GPT-2's tokens
COCO_STEPS = 10 * 113_287 // IMAGES  # the paper's COCO recipe: ten epochs of Karpathy's train
PRODUCT = 1536  # side of the matrix product that the ceiling is taken from
SMALL = 96  # the same with --quick
BASELINE_ROUNDS = 2
WARM_ROUNDS = 2
BASELINE = "original, fp32"
KEPT = "original, fp32, freed memory kept"
VARIANTS = {  # name: (precision, captions of an image share its prefix)
    "fp32, a row per caption": (torch.float32, False),
    "fp32, shared prefix": (torch.float32, True),
    "bf16, a row per caption": (torch.bfloat16, False),
    "bf16, shared prefix": (torch.bfloat16, True),
}
SETTINGS = {"frozen": ("transformer", False), "tuned": ("mlp", True)}


@dataclass(frozen=True)
class Sizes:
    """Sizes of what is trained."""

    embedding_dim: int
    mapper_layers: int
    lm: dict[str, int]


GPT2_SMALL = {"width": 768, "layers": 12, "heads": 12, "positions": 1024, "vocabulary": 50257}
TINY = {"width": 32, "layers": 2, "heads": 4, "positions": 64, "vocabulary": 300}
REAL, QUICK = Sizes(512, 8, GPT2_SMALL), Sizes(24, 2, TINY)


def main() -> None:
    """Measure, and print one table for each setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all")
    parser.add_argument("--fresh-memory", action="store_true", help="as the C library has it")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)  # a child: setting, variant
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # a child: the original of a setting
    arguments = parser.parse_args()
    if arguments.alone:
        step_when_asked(arguments.alone, arguments)
        return
    if not arguments.fresh_memory:
        keep_freed_memory()  # as `prefixcap train` does
    if arguments.memory:
        print(peak_of_steps(*arguments.memory, arguments))
        return
    print(
        f"{date.today()}, {platform.machine()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, {arguments.device}"
    )
    print(f"{rates_of_products(arguments)}\n", flush=True)
    if not takes_bf16(arguments):
        print("bf16 is not faster than fp32 here, so that nothing trains in it\n", flush=True)
    for setting in arguments.settings:
        print_table(setting, arguments)


def print_table(setting: str, arguments: argparse.Namespace) -> None:
    """Print seconds, ratio to the original and peak memory of every variant of a setting."""
    model, batch = model_of(setting, arguments), batch_of(arguments)
    original = original_step(setting, copy.deepcopy(model), batch)
    steps = {KEPT: original, **our_steps(model, batch, arguments)}
    work = {name: products_of(step) for name, step in steps.items()}  # and every step is warm
    work[BASELINE] = work[KEPT]
    print(f"{setting}: gradients differ by {gradient_errors(model, batch, arguments)}", flush=True)
    if arguments.fresh_memory or arguments.device != "cpu":
        del steps[KEPT]  # it would be the baseline again
    clocks = {name: partial(seconds_of, step, arguments.device) for name, step in steps.items()}
    with original_alone(setting, arguments) as alone:
        seconds, rates = measured({BASELINE: alone, **clocks}, arguments)
    del steps, clocks, original
    print(f"\n| {setting} | s/step | ratio | of ceiling | at most | peak MiB | COCO, 10 epochs |")
    print("|---|---|---|---|---|---|---|")
    baseline = statistics.median(seconds[BASELINE])
    for name, values in seconds.items():
        median = statistics.median(values)
        ceiling = work[name] / max(rates[name])
        print(
            f"| {name} | {median:.3f} | {baseline / median:.1f} | {ceiling / median:.0%} | "
            f"{baseline / ceiling:.1f} | {measured_peak(setting, name, arguments)} | "
            f"{median * COCO_STEPS / 3600:.1f} h |",
            flush=True,
        )
    print(flush=True)


def measured(
    clocks: dict[str, Callable[[], float]], arguments: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of each variant's steps, and the rates of products beside them."""
    seconds: dict[str, list[float]] = {name: [] for name in clocks}
    rates: dict[str, list[float]] = {name: [] for name in clocks}
    for number in range(-WARM_ROUNDS, arguments.rounds):
        for name, clock in clocks.items():
            if number < 0:
                clock()
            elif name not in (BASELINE, KEPT) or number < BASELINE_ROUNDS:
                seconds[name].append(clock())
                rates[name].append(product_rate(precision_of(name), arguments))
    return seconds, rates


def model_of(setting: str, arguments: argparse.Namespace) -> ClipCap:
    """Captioner of the setting, the same random weights every time."""
    sizes = QUICK if arguments.quick else REAL
    kind, tuned = SETTINGS[setting]
    torch.manual_seed(0)
    config = ModelConfig(
        encoder=EncoderConfig(kind="clip", name="openai/clip-vit-base-patch32"),
        embedding_dim=sizes.embedding_dim,
        mapper=MapperConfig(kind=kind, layers=sizes.mapper_layers),
        language_model=LanguageModelConfig(frozen=not tuned, **sizes.lm),
    )
    return ClipCap.build(config, train_bpe(["a"], 257)).to(arguments.device)


def batch_of(arguments: argparse.Namespace) -> CaptionBatch:
    """Forty captions of COCO-like lengths, no token of id 0."""
    sizes = QUICK if arguments.quick else REAL
    generator = torch.Generator().manual_seed(0)
    count = IMAGES * CAPTIONS
    lengths = MEAN_TOKENS + DEVIATION * torch.randn(count, generator=generator)
    lengths = (lengths - lengths.mean() + MEAN_TOKENS).round().clamp(6, PADDED).long()
    vocabulary = sizes.lm["vocabulary"]
    ids = torch.randint(1, vocabulary, (count, int(lengths.max())), generator=generator)
    ids[torch.arange(ids.shape[1]) >= lengths[:, None]] = IGNORED
    embeddings = torch.randn(IMAGES, sizes.embedding_dim, generator=generator)
    rows = torch.arange(IMAGES).repeat_interleave(CAPTIONS)
    device = arguments.device
    return CaptionBatch(embeddings.to(device), ids.to(device), rows.to(device))


def our_steps(
    model: ClipCap, batch: CaptionBatch, arguments: argparse.Namespace
) -> dict[str, Callable[[], object]]:
    """One whole training step of each of our variants, all of them of this one model."""
    optimizer = build_optimizer(model.train(), TrainConfig())

    def ours(precision: torch.dtype, shared: bool) -> None:
        kind = batch.ids.device.type
        with stepping_in_backward(optimizer):
            with torch.autocast(kind, torch.bfloat16, enabled=precision == torch.bfloat16):
                loss, count = model.loss(batch, shared=shared)
            (loss / count).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {
        name: partial(ours, *variant)
        for name, variant in VARIANTS.items()
        if variant[0] is torch.float32 or takes_bf16(arguments)
    }


def takes_bf16(arguments: argparse.Namespace) -> bool:
    """Whether steps in bf16 are measured: where they are fast, or tiny."""
    return arguments.quick or bf16_is_fast(arguments.device)


def original_step(setting: str, model: ClipCap, batch: CaptionBatch) -> Callable[[], object]:
    """One whole training step of the baseline, which changes the model."""
    step = OriginalStep(model.mapper, model.lm, SETTINGS[setting][1], PADDED)
    return partial(step, *as_original(batch))


def as_original(batch: CaptionBatch) -> tuple[Tensor, Tensor]:
    """The batch with one embedding a caption, (M, D), and ids (M, T) padded with 0."""
    return batch.embeddings[batch.image_rows], batch.ids.clamp(min=0)


def gradient_errors(model: ClipCap, batch: CaptionBatch, arguments: argparse.Namespace) -> str:
    """Norm of the differences of the mapper's gradients to the original's, by the norm of those."""
    original = copy.deepcopy(model)
    OriginalStep(original.mapper, original.lm, True, PADDED).gradients(*as_original(batch))
    exact = torch.cat([p.grad.flatten() for p in original.mapper.parameters()])
    del original
    errors = []
    for enabled in (False, True) if takes_bf16(arguments) else (False,):
        ours = copy.deepcopy(model)
        with torch.autocast(arguments.device, torch.bfloat16, enabled=enabled):
            loss, count = ours.loss(batch)
        (loss / count).backward()
        found = torch.cat([p.grad.flatten() for p in ours.mapper.parameters()])
        errors.append(float((found - exact).norm() / exact.norm()))
    said = [f"{e:.1e} in {name}" for e, name in zip(errors, ("fp32", "bf16"), strict=False)]
    return f"{', '.join(said)}{units_apart(model.mapper, batch)}"


def units_apart(mapper: nn.Module, batch: CaptionBatch) -> str:
    """How many ReLU units of a Transformer mapper are on for an image and off for its captions.

    One whose input is 0 up to rounding moves the gradients by far more than rounding does.
    """
    seen: list[Tensor] = []
    layers = [module.fc1 for module in mapper.modules() if isinstance(module, MapperMLP)]
    hooks = [fc1.register_forward_hook(lambda *call: seen.append(call[-1] > 0)) for fc1 in layers]
    mapper(batch.embeddings)
    mapper(as_original(batch)[0])
    for hook in hooks:
        hook.remove()
    images, captions = seen[: len(layers)], seen[len(layers) :]
    pairs = list(zip(images, captions, strict=True))
    apart = sum(int((image[batch.image_rows] != caption).sum()) for image, caption in pairs)
    units = sum(caption.numel() for caption in captions)
    return f"; ReLU units on in one of both: {apart:,} of {units:,}" if layers else ""


def precision_of(name: str) -> torch.dtype:
    """Type that a variant's products are computed in."""
    return VARIANTS[name][0] if name in VARIANTS else torch.float32


def products_of(step: Callable[[], object]) -> int:
    """Multiplications and additions of a step's matrix products."""
    packed = {torch.ops.mkldnn._linear_pointwise: packed_operations}
    with FlopCounterMode(display=False, custom_mapping=packed) as counter:
        step()
    return counter.get_total_flops()


def packed_operations(
    x: torch.Size, weight: torch.Size, *_: object, out_shape: torch.Size, **__: object
) -> int:
    """Operations of one of oneDNN's linear layers."""
    return 2 * math.prod(out_shape) * x[-1]


def rates_of_products(arguments: argparse.Namespace) -> str:
    """What the ratios below rest on: how fast this machine multiplies."""
    plain = product_rate(torch.float32, arguments, torch.nn.functional.linear)
    exact, rounded = (product_rate(d, arguments) for d in (torch.float32, torch.bfloat16))
    return (
        f"matrix products, 10^9 operations a second: {plain / 1e9:,.0f} in fp32 as PyTorch has it, "
        f"{exact / 1e9:,.0f} in fp32 as we do, {rounded / 1e9:,.0f} in bf16"
    )


def product_rate(
    dtype: torch.dtype,
    arguments: argparse.Namespace,
    product: Callable[[Tensor, Tensor], Tensor] = linear,
) -> float:
    """Operations per second of a large matrix product."""
    side, device = SMALL if arguments.quick else PRODUCT, arguments.device
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = [seconds_of(lambda: product(a, b), device) for _ in range(6)]
    return 2 * side**3 / min(seconds)


def measured_peak(setting: str, name: str, arguments: argparse.Namespace) -> str:
    """Peak memory in MiB of a process that only takes two steps of this variant.

    With --quick only the baseline's, since starting such a process takes longer than its steps.
    """
    if arguments.quick and name != BASELINE:
        return "-"
    command = [sys.executable, __file__, "--device", arguments.device, "--memory", setting, name]
    command += ["--quick"] if arguments.quick else []
    command += ["--fresh-memory"] if arguments.fresh_memory or name == BASELINE else []
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def original_alone(setting: str, arguments: argparse.Namespace) -> Iterator[Callable[[], float]]:
    """The original in a process of its own: each call is one step, and its seconds."""
    command = [sys.executable, __file__, "--device", arguments.device, "--alone", setting]
    command += ["--quick"] if arguments.quick else []
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:

        def step() -> float:
            process.stdin.write("\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        yield step


def step_when_asked(setting: str, arguments: argparse.Namespace) -> None:
    """Take a step of the original for each line of standard input, and print its seconds."""
    step = original_step(setting, model_of(setting, arguments), batch_of(arguments))
    for _ in sys.stdin:
        print(seconds_of(step, arguments.device), flush=True)


def peak_of_steps(setting: str, name: str, arguments: argparse.Namespace) -> int:
    """Peak memory of two steps, MiB: resident beyond what the imports take, or the GPU's."""
    device = torch.device(arguments.device)
    before = peak_mib(device) if arguments.device == "cpu" else 0
    model, batch = model_of(setting, arguments), batch_of(arguments)
    is_baseline = name in (BASELINE, KEPT)
    step = (
        original_step(setting, model, batch)
        if is_baseline
        else our_steps(model, batch, arguments)[name]
    )
    for _ in range(2):
        step()
    return peak_mib(device) - before


def seconds_of(run: Callable[[], object], device: str) -> float:
    """CPU seconds of a call, or wall-clock seconds on a GPU until it has finished."""
    on_cpu = device == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    if not on_cpu:
        torch.cuda.synchronize()
    start = clock()
    run()
    if not on_cpu:
        torch.cuda.synchronize()
    return clock() - start


if __name__ == "__main__":
    main()
