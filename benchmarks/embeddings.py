"""The embedding store: encoding beside the original's way, and reading 3.3 million rows.

    OMP_NUM_THREADS=1 python benchmarks/embeddings.py [--photos FOLDER] [--device cuda]

Random weights at ViT-B/32's real size, JPEG photos of 208 pixels (made up without `--photos`). The
baseline is the original's way: transformers' preprocessing and CLIP, one photo at a time, float32.
All take turns; medians of three rounds.
CPU seconds, so that a busy machine does not matter; on a GPU, wall-clock seconds. The large store
is made of files of zeros that take no room on the disk; opening it is timed in a fresh process.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from prefixcap.config import EncoderConfig, PreprocessConfig
from prefixcap.embeddings import SHARD_ROWS, EmbeddingStore, StoreItem
from prefixcap.encoder import ImageEncoder
from prefixcap.images import open_rgb
from prefixcap.preprocess import pixels
from prefixcap.store_build import build_store, fitting_batch
from prefixcap.transformer_encoders import ClipViT

ROWS, WIDTH = 3_318_333, 512  # Conceptual Captions, ViT-B/32
BATCHES, BATCH = 300, 64  # random reads
ROUNDS = 3
SIDE_PX = 208


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of photos; made-up ones without it")
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.store:
        print(json.dumps(reading(arguments.store)))
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        print_encoding(folder, arguments)
        print_reading(folder / "large")


def print_encoding(folder: Path, arguments: argparse.Namespace) -> None:
    """Images per second of each way from a file to a vector, and their ratios."""
    paths = photos(folder, arguments.photos, arguments.images)
    items = [StoreItem(str(number), path) for number, path in enumerate(paths)]
    clock = time.process_time if arguments.device == "cpu" else time.perf_counter
    encoder = vit_b32(torch.bfloat16, arguments.device)
    encoder(torch.zeros(2, 3, 224, 224, device=arguments.device))  # arranges the weights
    encoder.fingerprint()  # asked for once a store, not once an image
    official = one_by_one(arguments.device, clock)
    official(paths[:3])  # warms up
    sizes = sorted({8, fitting_batch(encoder)})
    ways: dict[str, Callable[[int], float]] = {
        "the original's way, fp32, one by one": lambda _: official(paths),
        **{
            f"encoder alone, bf16, batch {size}": partial(alone, encoder, paths, size, clock)
            for size in sizes
        },
        "prefixcap embed, bf16": lambda turn: embedding(
            encoder, items, folder / f"store-{turn}", clock
        ),
    }
    rounds = [{name: way(turn) for name, way in ways.items()} for turn in range(ROUNDS)]
    rates = {name: statistics.median(one[name] for one in rounds) for name in ways}
    first, best = next(iter(rates.values())), max(list(rates.values())[1:-1])
    print(f"| ViT-B/32, {len(paths)} photos | images/s | to the first | to the encoder alone |")
    print("|---|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.1f} | {rate / first:.2f} | {rate / best:.2f} |")


def one_by_one(device: str, clock: Callable[[], float]) -> Callable[[list[Path]], float]:
    """Images per second of transformers' processor and CLIP, on a third of the paths given."""
    processor, model = CLIPImageProcessorPil(), network().to(device)

    @torch.inference_mode()
    def encode(path: Path) -> None:
        with Image.open(path) as image:
            batch = processor(image.convert("RGB"), return_tensors="pt").to(device)
        model(**batch).image_embeds.cpu()

    def rate(paths: list[Path]) -> float:
        some = paths[: max(1, len(paths) // 3)]
        start = clock()
        for path in some:
            encode(path)
        return len(some) / (clock() - start)

    return rate


@torch.inference_mode()
def alone(
    encoder: ImageEncoder, paths: list[Path], size: int, clock: Callable[[], float], _: int
) -> float:
    """Images per second of the encoder on pixels that are there already."""
    opened = [pixels(open_rgb(path), encoder.config.preprocess) for path in paths]
    batches = torch.from_numpy(np.stack(opened)).to(encoder.device).split(size)
    start = clock()
    for batch in batches:
        encoder(batch).cpu()
    return len(paths) / (clock() - start)


def embedding(
    encoder: ImageEncoder, items: list[StoreItem], folder: Path, clock: Callable[[], float]
) -> float:
    """Images per second of a store's build, without the hash of the encoder's weights."""
    fingerprint = encoder.fingerprint()
    encoder.fingerprint = lambda: fingerprint
    start = clock()
    assert build_store(folder, encoder, items) == []
    return len(items) / (clock() - start)


def print_reading(folder: Path) -> None:
    """What a store of 3.3 million rows costs to open, to search and to read."""
    write_store_of_zeros(folder)
    command = [sys.executable, __file__, "--store", str(folder)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    print(f"\n| store of {ROWS:,} rows of {WIDTH} | |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value:,.1f} |")


def reading(folder: Path) -> dict[str, float]:
    """Times and memory of a store, in a process that has done nothing else."""
    before, start = memory_mb(), time.process_time()
    store = EmbeddingStore(folder)
    store.rows([0])
    opened, memory = time.process_time() - start, memory_mb() - before
    generator = np.random.default_rng(0)
    batches = generator.integers(ROWS, size=(BATCHES, BATCH))
    first, again = (seconds_to_read(store, batches) for _ in range(2))
    asked = [image_id(row) for row in generator.integers(ROWS, size=10_000)]
    before, start = memory_mb(), time.process_time()
    store.rows_of(asked)
    return {
        "opening and one row, CPU ms": 1e3 * opened,
        "memory that it takes, MB": memory,
        f"random batches of {BATCH}, a second, of pages never read": BATCHES / first,
        f"random batches of {BATCH}, a second, again": BATCHES / again,
        "first search for 10,000 ids, CPU s": time.process_time() - start,
        "memory that the ids take, MB": memory_mb() - before,
    }


def seconds_to_read(store: EmbeddingStore, batches: np.ndarray) -> float:
    """CPU seconds for batches (N, B) of rows."""
    start = time.process_time()
    for rows in batches:
        store.rows(rows)
    return time.process_time() - start


def write_store_of_zeros(folder: Path) -> None:
    """A store as `prefixcap embed` would write it, its vectors holes in the files."""
    folder.mkdir()
    sizes = [min(SHARD_ROWS, ROWS - start) for start in range(0, ROWS, SHARD_ROWS)]
    for number, size in enumerate(sizes):
        path = folder / f"embeddings-{number:05d}.npy"
        with path.open("wb") as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": (size, WIDTH)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + 2 * size * WIDTH)
        ids = [image_id(number * SHARD_ROWS + place) for place in range(size)]
        (folder / f"ids-{number:05d}.json").write_text(json.dumps(ids, indent=2))
    index = {"format_version": 1, "rows": ROWS, "shard_sizes": sizes, "fingerprint": "0"}
    (folder / "index.json").write_text(json.dumps({**index, "encoder": {}}))


def image_id(row: int) -> str:
    """The id of an image as a recipe on Conceptual Captions has it."""
    return f"0-conceptual/train/{row:09d}"


def memory_mb() -> float:
    """Memory of this process that is its own, MB: pages of mapped files can be dropped."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("RssAnon")]
    return int(line.split()[1]) / 1000


def photos(folder: Path, given: Path | None, count: int) -> list[Path]:
    """JPEG files: the first of a folder, or smooth random ones."""
    if given:
        found = sorted(given.rglob("*.jpg"))[:count]
        return found or sys.exit(f"{given}: holds no .jpg")
    return list(made_up(folder, count))


def made_up(folder: Path, count: int) -> Iterator[Path]:
    """Smooth random photos of `SIDE_PX` pixels."""
    generator = np.random.default_rng(0)
    for number in range(count):
        colours = Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        path = folder / f"{number}.jpg"
        colours.resize((SIDE_PX, SIDE_PX)).save(path, quality=90)
        yield path


def network() -> CLIPVisionModelWithProjection:
    """CLIP ViT-B/32 as transformers has it, random weights, float32."""
    torch.manual_seed(0)
    return CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=WIDTH)).eval()


def vit_b32(dtype: torch.dtype, device: str) -> ImageEncoder:
    """The same as prefixcap has it."""
    config = EncoderConfig(kind="clip", preprocess=PreprocessConfig())
    return ImageEncoder(config, ClipViT(network())).requires_grad_(False).cast(dtype, device)


if __name__ == "__main__":
    main()
