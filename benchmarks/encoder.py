"""Images per CPU second: preprocessing and ViT-B/32, ours beside transformers in one run.

    OMP_NUM_THREADS=1 python benchmarks/encoder.py [--photos FOLDER] [--device cuda]

Random weights at the real size. The baselines are transformers' CLIPImageProcessorPil, and its
CLIP on one image at a time in float32. Rounds of all variants are interleaved, so that a busy
machine slows each alike; the median round counts. On a GPU, wall-clock seconds are taken instead.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from prefixcap.config import EncoderConfig, PreprocessConfig
from prefixcap.encoder import ImageEncoder
from prefixcap.preprocess import pixels
from prefixcap.transformer_encoders import ClipViT

BATCH = 64
ROUNDS = 5
SIZE_PX = (640, 480)  # of the made-up photos: COCO's most frequent size


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of photos; made-up ones without it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    images = read_photos(arguments.photos) if arguments.photos else made_up_photos()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.device}\n")
    print_table("preprocessing", preprocessing(images), len(images), arguments)
    encoders = {d: vit_b32(d, arguments.device) for d in (torch.float32, torch.bfloat16)}
    batch = torch.randn(BATCH, 3, 224, 224, device=arguments.device)
    print_table("ViT-B/32", encoding(encoders, batch), BATCH, arguments)
    print(f"cosine of bf16 to fp32: {lowest_cosine(encoders, images):.5f} at least")


def preprocessing(images: Sequence[Image.Image]) -> dict[str, Callable[[], object]]:
    """Ways to preprocess the images; the first is the baseline."""
    processor, config = CLIPImageProcessorPil(), PreprocessConfig()
    return {
        "transformers, one by one": lambda: [processor(image) for image in images],
        "prefixcap": lambda: [pixels(image, config) for image in images],
    }


def encoding(
    encoders: dict[torch.dtype, ImageEncoder], batch: torch.Tensor
) -> dict[str, Callable[[], object]]:
    """Ways to encode a batch of pixels (B, 3, 224, 224); the first is the baseline."""
    exact, rounded = encoders[torch.float32], encoders[torch.bfloat16]
    official = vit_b32_of_transformers().to(batch.device)
    return {
        "transformers fp32, one by one": lambda: [official(pixel_values=p[None]) for p in batch],
        "prefixcap fp32, one by one": lambda: [exact(p[None]) for p in batch],
        f"prefixcap fp32, batch {BATCH}": lambda: exact(batch),
        f"prefixcap bf16, batch {BATCH}": lambda: rounded(batch),
    }


def vit_b32(dtype: torch.dtype, device: str) -> ImageEncoder:
    """CLIP ViT-B/32 at its real size, with the same random weights every time."""
    model = vit_b32_of_transformers()
    config = EncoderConfig(kind="clip", preprocess=PreprocessConfig())
    return ImageEncoder(config, ClipViT(model)).requires_grad_(False).cast(dtype, device)


def vit_b32_of_transformers() -> CLIPVisionModelWithProjection:
    """The same network as transformers has it, float32."""
    torch.manual_seed(0)
    return CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=512)).eval()


def lowest_cosine(
    encoders: dict[torch.dtype, ImageEncoder], images: Sequence[Image.Image]
) -> float:
    """Smallest cosine similarity of an image's bf16 embedding to its fp32 one."""
    exact, rounded = (encoder.encode(images[:BATCH]) for encoder in encoders.values())
    return torch.cosine_similarity(exact, rounded).min().item()


@torch.inference_mode()
def print_table(
    title: str, variants: dict[str, Callable[[], object]], count: int, arguments: argparse.Namespace
) -> None:
    """Print images per second of each variant, and its ratio to the first one."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(arguments.rounds + 1):  # the first round warms up
        for name, run in variants.items():
            seconds[name].append(seconds_of(run, arguments.device))
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    baseline = next(iter(medians.values()))
    print(f"| {title} | images/s | ratio |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {count / median:.1f} | {baseline / median:.2f} |")
    print()


def seconds_of(run: Callable[[], object], device: str) -> float:
    """CPU seconds of a call, or wall-clock seconds on a GPU until it has finished."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def read_photos(folder: Path) -> list[Image.Image]:
    """Up to 100 decoded JPEG photos of a folder and its subfolders."""
    paths = sorted(folder.rglob("*.jpg"))[:100]
    if not paths:
        raise SystemExit(f"{folder}: holds no .jpg")
    return [Image.open(path).convert("RGB") for path in paths]


def made_up_photos(count: int = 64) -> list[Image.Image]:
    """Smooth random images of a common size."""
    rng = np.random.default_rng(0)
    seeds = [rng.integers(0, 256, (12, 16, 3), dtype=np.uint8) for _ in range(count)]
    return [Image.fromarray(seed).resize(SIZE_PX) for seed in seeds]


if __name__ == "__main__":
    main()
