"""Captions per second, memory and cost of decoding: GPT-2 small at its real size.

    OMP_NUM_THREADS=1 python benchmarks/decoding.py [--device cuda] [--rounds 5] [--quick]

Random weights, a prefix of 10, captions of 12 tokens that never stop. Every round runs each variant
once, beside the others, so that a busy machine slows each alike; ratios are medians over rounds.
On a CPU the clock counts this process's CPU seconds, on a GPU wall-clock seconds.
"""

import argparse
import copy
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from decoding_baselines import beam_without_cache, generate, greedy_without_cache
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from prefixcap.config import DecodeOptions, EncoderConfig, LstmConfig, ModelConfig
from prefixcap.decoding import decode
from prefixcap.language_model import PrefixDecoder
from prefixcap.lstm import LstmCaptioner
from prefixcap.word_vocabulary import count_words

PREFIX = 10
TOKENS = 12
WIDTH = 5
COMPARED = 20  # images whose five beams are compared with the original's
SECTIONS = ("speed", "same", "memory", "length", "width", "lstm")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    batch: int
    lm: GPT2Config
    memory_batches: tuple[int, ...]
    lengths: tuple[int, ...]
    widths: tuple[int, ...]
    words: int  # in the LSTMs' vocabulary


NO_ENDS = {"bos_token_id": None, "eos_token_id": None}
REAL = Sizes(64, GPT2Config(**NO_ENDS), (64, 256), (6, 12, 24, 48), (1, 2, 5, 10, 20), 4000)
QUICK = Sizes(
    4,
    GPT2Config(n_layer=2, n_head=4, n_embd=64, vocab_size=1000, **NO_ENDS),
    (4,),
    (2, 4),
    (1, 2),
    50,
)


class Bench:
    """Language models in both precisions, the prefixes of a batch, and the clock."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.sizes = QUICK if arguments.quick else REAL
        self.device = torch.device(arguments.device)
        self.rounds = 1 if arguments.quick else arguments.rounds
        # requires_grad stays on: without it, PyTorch copies the output layer once for each row
        # inside `generate` (20 GB at beam 5), which would flatter us
        lm = GPT2LMHeadModel(self.sizes.lm).eval()
        self.lm = {
            "fp32": copy.deepcopy(lm).to(self.device),
            "bf16": lm.to(self.device, torch.bfloat16),
        }
        self.decoder = {name: PrefixDecoder(one) for name, one in self.lm.items()}
        batch = max(self.sizes.batch, COMPARED)
        self.prefixes = torch.randn(batch, PREFIX, self.sizes.lm.n_embd).to(self.device)

    def captions(
        self, dtype: str, prefixes: Tensor, width: int = 1, tokens: int = TOKENS
    ) -> list[list[list[int]]]:
        """Our captions: token ids of all beams of each image."""
        options = DecodeOptions(beam_size=width, captions_per_image=width, max_tokens=tokens)
        found = decode(self.decoder[dtype], prefixes, options, stop_ids=frozenset())
        return [[hypothesis.ids for hypothesis in image] for image in found]

    def seconds(self, run: Callable[[], object]) -> float:
        """Seconds of a call: of CPU time, or of wall-clock time until a GPU has finished."""
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        begun = clock()
        run()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return clock() - begun

    def interleaved(self, variants: dict[str, tuple[int, Callable[[], object]]]) -> dict[str, list]:
        """Seconds per image of each variant (images, call), one number for each round."""
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for turn in range(self.rounds + 1):  # the first turn warms up
            for name, (images, run) in variants.items():
                taken = self.seconds(run) / images
                if turn > 0:
                    seconds[name].append(taken)
        return seconds


def speed(bench: Bench) -> None:
    """Print captions per second beside the original's and transformers'."""
    size = bench.sizes.batch
    batch, one = bench.prefixes[:size], bench.prefixes[:1]
    half = batch.to(torch.bfloat16)
    exact, rounded = bench.lm["fp32"], bench.lm["bf16"]
    for title, width in (("greedy", 1), (f"beam {WIDTH}", WIDTH)):
        original = (
            (lambda: greedy_without_cache(exact, one, TOKENS))
            if width == 1
            else (lambda: beam_without_cache(exact, one, TOKENS, WIDTH))
        )
        variants = {
            "original: one by one, no cache, fp32": (1, original),
            f"transformers `generate`, batch {size}, bf16": (
                size,
                lambda width=width: generate(rounded, half, TOKENS, width),
            ),
            "prefixcap, batch 1, bf16": (1, lambda width=width: bench.captions("bf16", one, width)),
            f"prefixcap, batch {size}, fp32": (
                size,
                lambda width=width: bench.captions("fp32", batch, width),
            ),
            f"prefixcap, batch {size}, bf16": (
                size,
                lambda width=width: bench.captions("bf16", batch, width),
            ),
        }
        print_speed(title, bench.interleaved(variants))


def print_speed(title: str, seconds: dict[str, list[float]]) -> None:
    """Print one table: captions per second, and the ratios to the first two variants."""
    original, transformers, *_ = seconds.values()
    print(f"| {title} | captions/s | to the original | to `generate` |\n|---|---|---|---|")
    for name, taken in seconds.items():
        print(
            f"| {name} | {1 / statistics.median(taken):.3g} | {ratio(original, taken):.3g} "
            f"| {ratio(transformers, taken):.3g} |"
        )
    print(flush=True)


def ratio(slow: list[float], fast: list[float]) -> float:
    """Median over rounds of how many times as fast the second is as the first."""
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))


def same(bench: Bench) -> None:
    """Print how many images get the original's five beams, in its order."""
    images = bench.prefixes[:COMPARED]
    expected = [beam_without_cache(bench.lm["fp32"], one[None], TOKENS, WIDTH) for one in images]
    for dtype in bench.lm:
        pairs = list(zip(bench.captions(dtype, images, WIDTH), expected, strict=True))
        whole = sum(found == own for found, own in pairs)
        best = sum(found[0] == own[0] for found, own in pairs)
        print(
            f"{dtype}: all {WIDTH} beams as the original's for {whole} of {len(pairs)} images,",
            end=" ",
        )
        print(f"the best one for {best}")
    print(flush=True)


def memory(bench: Bench) -> None:
    """Print the peak memory of a process that decodes one batch in bf16."""
    print("| peak memory, bf16 | greedy | beam 5 |\n|---|---|---|")
    for batch in bench.sizes.memory_batches:
        peaks = [f"{peak_mb(bench, batch, width):,.0f} MB" for width in (1, WIDTH)]
        print(f"| batch {batch} | {' | '.join(peaks)} |")
    alone = f"{peak_mb(bench, 0, 1):,.0f} MB"
    print(f"| libraries and language model alone | {alone} | {alone} |\n", flush=True)


def peak_mb(bench: Bench, batch: int, width: int) -> float:
    """Peak memory of a fresh process that loads the language model and decodes `batch` images."""
    quick = ["--quick"] if bench.sizes is QUICK else []
    task = ["--device", str(bench.device), "--one-batch", f"{batch},{width}", *quick]
    command = [sys.executable, __file__, *task]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def one_batch(arguments: argparse.Namespace) -> None:
    """Decode one batch in bf16 and print this process's peak memory in MB."""
    batch, width = (int(part) for part in arguments.one_batch.split(","))
    sizes = QUICK if arguments.quick else REAL
    torch.set_default_dtype(torch.bfloat16)  # so that no float32 copy counts
    lm = GPT2LMHeadModel(sizes.lm).eval().to(arguments.device)
    torch.set_default_dtype(torch.float32)
    if batch:
        prefixes = torch.randn(batch, PREFIX, sizes.lm.n_embd, device=arguments.device)
        options = DecodeOptions(beam_size=width, max_tokens=TOKENS)
        decode(PrefixDecoder(lm), prefixes, options, stop_ids=frozenset())
    print(
        process_peak_mb() if arguments.device == "cpu" else torch.cuda.max_memory_allocated() / 1e6
    )


def process_peak_mb() -> float:
    """Peak resident memory of this program in MB, from Linux's VmHWM.

    Not `ru_maxrss`: that one begins at the memory of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def length(bench: Bench) -> None:
    """Print what longer captions cost, bf16."""
    batch = bench.prefixes[: bench.sizes.batch]
    for title, width in (("greedy", 1), (f"beam {WIDTH}", WIDTH)):
        variants = {
            f"{tokens} tokens": (
                len(batch),
                lambda tokens=tokens, width=width: bench.captions("bf16", batch, width, tokens),
            )
            for tokens in bench.sizes.lengths
        }
        print_cost(f"caption length, {title}", bench.interleaved(variants))


def width(bench: Bench) -> None:
    """Print what wider beams cost, bf16."""
    batch = bench.prefixes[: bench.sizes.batch]
    variants = {
        f"beam {beams}": (len(batch), lambda beams=beams: bench.captions("bf16", batch, beams))
        for beams in bench.sizes.widths
    }
    print_cost("beam width", bench.interleaved(variants))


def lstm(bench: Bench) -> None:
    """Print captions per second of the LSTM captioners, in batches and one image at a time."""
    for title, attention in (("Show and Tell", False), ("Show, Attend and Tell", True)):
        models = {dtype: lstm_captioner(bench, attention) for dtype in ("fp32", "bf16")}
        models["bf16"].to(torch.bfloat16)
        shape = (bench.sizes.batch, 49, 768) if attention else (bench.sizes.batch, 512)
        batch = torch.randn(shape).to(bench.device)
        for width in (1, WIDTH):
            options = DecodeOptions(beam_size=width, max_tokens=TOKENS)
            variants = {
                f"batch {len(images)}, {dtype}": (
                    len(images),
                    lambda images=images, model=models[dtype], options=options: decode(
                        model, images, options, stop_ids=frozenset()
                    ),
                )
                for images, dtype in ((batch[:1], "fp32"), (batch, "fp32"), (batch, "bf16"))
            }
            search = f"beam {width}" if width > 1 else "greedy"
            print_cost(f"LSTM, {title}, {search}", bench.interleaved(variants))


def lstm_captioner(bench: Bench, attention: bool) -> LstmCaptioner:
    """Two layers of 512 on CLIP ViT-B/32's vector, or one layer with attention on its grid."""
    config = ModelConfig(
        encoder=EncoderConfig(
            kind="clip",
            name="openai/clip-vit-base-patch32",
            output="patches" if attention else "pooled",
        ),
        embedding_dim=768 if attention else 512,
        embedding_tokens=49 if attention else None,
        lstm=LstmConfig(attention=attention, layers=1 if attention else 2),
    )
    words = count_words((f"w{number}" for number in range(bench.sizes.words)), 1)
    return LstmCaptioner(config, words).eval().to(bench.device)


def print_cost(title: str, seconds: dict[str, list[float]]) -> None:
    """Print one table: milliseconds per caption, and how many times the first variant's."""
    first = next(iter(seconds.values()))
    print(f"| {title} | ms per image | times the first |\n|---|---|---|")
    for name, taken in seconds.items():
        print(f"| {name} | {1e3 * statistics.median(taken):.3g} | {ratio(taken, first):.3g} |")
    print(flush=True)


def machine(device: str) -> str:
    """The device, the number of threads and the versions, in one line."""
    name = torch.cuda.get_device_name() if device != "cpu" else processor()
    threads = torch.get_num_threads()
    return f"{date.today()}, {name}, {threads} threads, torch {torch.__version__}"


def processor() -> str:
    """Name of the processor, from Linux where it says so."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Measure what was asked for, and print one table for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: does it run?")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--one-batch", help=argparse.SUPPRESS)  # BATCH,WIDTH of a memory process
    arguments = parser.parse_args()
    if arguments.one_batch:
        one_batch(arguments)
        return
    print(machine(arguments.device), end="\n\n")
    bench = Bench(arguments)
    sections = dict(zip(SECTIONS, (speed, same, memory, length, width, lstm), strict=True))
    for name in arguments.only:
        sections[name](bench)


if __name__ == "__main__":
    main()
