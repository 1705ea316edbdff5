"""Near-duplicates: re-encoded photos are found, different ones are not."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prefixcap.datasets.pictures import MAX_BITS, fingerprint, near_duplicates

Change = Callable[[Image.Image], Image.Image]


def recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(buffer).convert("RGB")


CHANGES: dict[str, Change] = {
    "recompressed": recompressed,
    "halved": lambda image: image.resize((image.width // 2, image.height // 2)),
    "squashed": lambda image: image.resize((image.width, image.height // 2)),
    "brighter": lambda image: image.point(lambda level: min(255, int(level * 1.04))),
}


def real_photos(data_dir: Path, count: int) -> list[Image.Image]:
    files = sorted((data_dir / "flickr8k/images").iterdir())[:count]
    return [Image.open(file).convert("RGB") for file in files]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_photo_is_found_among_all_others(data_dir: Path, change: str):
    photos = real_photos(data_dir, 100)
    originals = [fingerprint(photo, b"original %d" % n) for n, photo in enumerate(photos)]
    changed = [
        fingerprint(CHANGES[change](photo), b"changed %d" % n) for n, photo in enumerate(photos)
    ]
    assert list(near_duplicates(originals, changed)) == [(n, n) for n in range(100)]


def test_different_photos_are_not_near(data_dir: Path):
    prints = [fingerprint(photo, b"%d" % n) for n, photo in enumerate(real_photos(data_dir, 300))]
    assert list(near_duplicates(prints[:150], prints[150:])) == []


def test_equal_files_are_not_near_but_the_same():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    assert list(near_duplicates([fingerprint(image, b"x")], [fingerprint(image, b"x")])) == []
    assert list(near_duplicates([fingerprint(image, b"x")], [fingerprint(image, b"y")])) == [(0, 0)]


def test_bits_say_where_a_picture_grows_brighter():
    rising = np.tile(np.arange(0, 90, dtype=np.uint8) * 2, (80, 1))  # (80, 90)
    bits = fingerprint(Image.fromarray(rising).convert("RGB"), b"").bits
    assert bits == 2**64 - 1
    falling = fingerprint(Image.fromarray(rising[:, ::-1].copy()).convert("RGB"), b"").bits
    assert falling == 0


def test_bands_lose_no_pair_within_the_limit():
    """Brute force over random hashes that differ in at most MAX_BITS bits."""
    rng = np.random.default_rng(0)
    flat = fingerprint(Image.new("RGB", (32, 32)), b"left")
    for _ in range(300):
        places = rng.choice(64, size=rng.integers(0, MAX_BITS + 1), replace=False)
        bits = sum(1 << int(place) for place in places)
        other = type(flat)(b"right", bits, flat.miniature)
        assert list(near_duplicates([flat], [other])) == [(0, 0)]
