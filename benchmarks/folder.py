"""Photos per second of `caption_folder`, beside the model alone and one photo at a time.

    python benchmarks/folder.py [--photos FOLDER] [--model NAME] [--device cuda]

Without `--model`, random weights at the size of `mini`, and 12 tokens a caption. The whole road is
from files on the disk to captions.jsonl; "model alone" captions decoded pixels in memory, batch
after batch; the whole road has two batches side by side on a CPU, and is measured without that too.
"one at a time" is the plain loop, a photo decoded and captioned after the other. Rounds of all
variants are interleaved, so that a busy machine slows each alike; the median round counts.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from prefixcap.captioner import BATCH_SIZE, Captioner
from prefixcap.config import DecodeOptions, EncoderConfig, ModelConfig, read_toml
from prefixcap.encoder import build_encoder
from prefixcap.folder import FolderOptions, caption_folder
from prefixcap.images import Photo, PhotoSet, find_photo_set
from prefixcap.model import ClipCap
from prefixcap.photo_loader import PhotoLoader, default_workers, load
from prefixcap.tokenizer import train_bpe

RECIPE = Path(__file__).parent.parent / "recipes" / "mini" / "caption_taught.toml"
COUNT, ROUNDS, TOKENS = 256, 5, 12
SIZE_PX = (500, 375)  # of the made-up photos: Flickr8k's most frequent size


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", help="folder of photos; made-up ones without it")
    parser.add_argument("--model", help="name or folder; random weights without it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--workers", type=int, help="default: what the command would take")
    arguments = parser.parse_args()
    captioner = _captioner(arguments.model, arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        photos = _photos(arguments.photos, arguments.count, Path(folder))
        workers = arguments.workers
        if workers is None:
            workers = default_workers(len(photos.photos), captioner.device.type)
        print(
            f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.device}, "
            f"{captioner.encoder.dtype}, {len(photos.photos)} photos, batch {BATCH_SIZE}, "
            f"{workers} workers\n"
        )
        variants = _variants(captioner, photos, workers, Path(folder))
        _print_table(_rates(variants, len(photos.photos), arguments.rounds))


def _variants(
    captioner: Captioner, photos: PhotoSet, workers: int, folder: Path
) -> dict[str, Callable[[], object]]:
    """The roads to measure; the first is what the last is compared with."""
    paths = [photo.path for photo in photos.photos]
    preprocess = captioner.preprocess
    levels = np.stack([load(path, preprocess) for path in paths])  # (B, S, S, 3)
    model = captioner.model.config.decoding.model_copy(update={"max_tokens": TOKENS})
    out = FolderOptions(folder / "captions.jsonl", None, model, workers=workers, overwrite=True)

    def model_alone() -> None:
        for start in range(0, len(levels), BATCH_SIZE):
            captioner.captions_of_levels(levels[start : start + BATCH_SIZE], model)

    def one_lane() -> None:
        with patch("prefixcap.folder.LANES", 1):
            caption_folder(captioner, photos, out)

    def decoding_alone() -> None:
        with PhotoLoader(preprocess, workers) as loader:
            list(loader.load(paths))

    return {
        "one at a time": lambda: [captioner.caption(path, model) for path in paths],
        "files to pixels alone": decoding_alone,
        "model alone": model_alone,
        "whole road, batch after batch": one_lane,
        "whole road": lambda: caption_folder(captioner, photos, out),
    }


def _rates(variants: dict[str, Callable[[], object]], photos: int, rounds: int) -> dict[str, float]:
    """Photos per second of each variant: its median round, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, variant in variants.items():
            begun = time.perf_counter()
            variant()
            seconds[name].append(time.perf_counter() - begun)
    return {name: photos / statistics.median(taken[1:]) for name, taken in seconds.items()}


def _print_table(rates: dict[str, float]) -> None:
    """Rates, and how they compare."""
    print("| road | photos/s | times one at a time |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.1f} | {rate / rates['one at a time']:.1f} |")
    share = rates["whole road"] / min(rates["model alone"], rates["files to pixels alone"])
    print(f"\nwhole road: {share:.0%} of its slower half alone")


def _photos(source: str | None, count: int, folder: Path) -> PhotoSet:
    """`count` photos of a folder, or made-up ones as JPEG files."""
    if source is not None:
        found = find_photo_set([source])
        return PhotoSet(found.root, found.photos[:count])
    generator = np.random.default_rng(0)
    photos = []
    for number in range(count):
        rough = generator.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        path = folder / f"{number:05}.jpg"
        Image.fromarray(rough).resize(SIZE_PX, Image.Resampling.BICUBIC).save(path, quality=90)
        photos.append(Photo(path, path.name))
    return PhotoSet(folder, tuple(photos))


def _captioner(name: str | None, device: str) -> Captioner:
    """The model of that name, or one of mini's size with random weights."""
    if name is not None:
        return Captioner.from_pretrained(name, device=device)
    torch.manual_seed(0)
    recipe = read_toml(RECIPE)
    encoder = build_encoder(EncoderConfig.model_validate(recipe["encoder"])).eval()
    side = encoder.config.preprocess.crop_px
    with torch.inference_mode():
        tokens, width = encoder(torch.zeros(1, 3, side, side)).shape[1:]
    config = ModelConfig(
        encoder=encoder.config,
        embedding_dim=width,
        embedding_tokens=tokens,
        mapper=recipe["mapper"],
        language_model=recipe["language_model"],
        decoding=DecodeOptions(max_tokens=TOKENS, stop="end"),
    )
    model = ClipCap.build(config, train_bpe(["a dog runs"], 300))
    model.encoder = encoder
    return Captioner(model.to(device), "random weights")


if __name__ == "__main__":
    main()
