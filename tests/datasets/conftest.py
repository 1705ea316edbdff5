"""Small photos, each different from all others, and files as datasets publish them."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def jpeg(seed: int, side: int = 48) -> bytes:
    """A JPEG of random coarse blocks; seeds give pictures that nobody would confuse."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)  # (6, 6, 3)
    buffer = io.BytesIO()
    Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def put_photos(folder: Path, *names: str, first_seed: int = 0) -> None:
    """Write a photo under each name, which may have folders in it."""
    for seed, name in enumerate(names, start=first_seed):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed))


def put_json(path: Path, value: Any) -> Path:
    """Write `value` as a JSON file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def put_tar(path: Path, files: dict[str, bytes]) -> Path:
    """Write a tar shard with `files` in their order and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def coco_json(split: str, captions: dict[int, list[str]], year: int = 2014) -> dict[str, Any]:
    """An annotation file as COCO publishes it, annotations shuffled among the images."""
    number = "{:012d}.jpg" if year == 2017 else f"COCO_{split}{year}_{{:012d}}.jpg"
    images = [{"id": one, "file_name": number.format(one), "license": 3} for one in captions]
    longest = max(map(len, captions.values()))
    annotations = [
        {"image_id": one, "id": 10 * place + one, "caption": texts[place]}
        for place in reversed(range(longest))
        for one, texts in captions.items()
        if place < len(texts)
    ]
    return {
        "info": {"year": year},
        "licenses": [],
        "images": images,
        "annotations": annotations,
    }


@pytest.fixture
def coco_root(tmp_path: Path) -> Callable[..., Path]:
    """Writes a COCO folder with the splits given as {split: {id: captions}}."""

    def build(year: int = 2014, **splits: dict[int, list[str]]) -> Path:
        for seed, (split, captions) in enumerate(splits.items()):
            content = coco_json(split, captions, year)
            put_json(tmp_path / f"annotations/captions_{split}{year}.json", content)
            names = [entry["file_name"] for entry in content["images"]]
            put_photos(tmp_path / f"{split}{year}", *names, first_seed=100 * seed)
        return tmp_path

    return build
