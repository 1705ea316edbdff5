"""Fingerprints of pictures, and which pictures of two sets are the same or nearly so."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

# A pair counts as near-duplicate within both limits. Measured in docs/data.md.
MAX_BITS = 7  # of 64 bits of the difference hash
MAX_LEVELS = 8.0  # of 256: mean difference between the 16 x 16 grey miniatures
_BANDS = 8  # equal in at least one band of 8 bits, if they differ in at most 7 bits
_SIDE = 16


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What of a picture is compared.

    Attributes:
        digest: hash of the file's bytes.
        bits: difference hash, 64 bits: is a pixel of the 9 x 8 miniature brighter than its left
            neighbour (Krawetz 2013, "dHash").
        miniature: (16, 16) uint8, grey, as bytes row by row; slots and bytes keep millions small.
    """

    digest: bytes
    bits: int
    miniature: bytes


def fingerprint(image: Image.Image, digest: bytes) -> Fingerprint:
    """Fingerprint of an RGB picture whose file's bytes have the hash `digest`."""
    grey = image.convert("L")
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.int16)  # (8, 9)
    brighter = small[:, 1:] > small[:, :-1]  # (8, 8)
    bits = int.from_bytes(np.packbits(brighter).tobytes(), "big")
    miniature = grey.resize((_SIDE, _SIDE), Image.Resampling.BOX).tobytes()
    return Fingerprint(digest, bits, miniature)


def near_duplicates(
    left: Sequence[Fingerprint], right: Sequence[Fingerprint]
) -> Iterator[tuple[int, int]]:
    """Places of the pairs, one of `left` and one of `right`, that show nearly the same picture.

    Pictures with equal bytes are left out: they are not near, they are the same.
    """
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, one in enumerate(right):
        for band in _bands(one.bits):
            buckets[band].append(place)
    for place, one in enumerate(left):
        candidates = {other for band in _bands(one.bits) for other in buckets.get(band, ())}
        for other in sorted(candidates):
            if _is_near(one, right[other]):
                yield place, other


def _bands(bits: int) -> list[tuple[int, int]]:
    """The eight bytes of a hash, each with its number."""
    return list(enumerate(bits.to_bytes(_BANDS, "big")))


def _is_near(one: Fingerprint, other: Fingerprint) -> bool:
    if one.digest == other.digest or (one.bits ^ other.bits).bit_count() > MAX_BITS:
        return False
    left, right = (np.frombuffer(each.miniature, np.uint8) for each in (one, other))
    difference = left.astype(np.int16) - right  # (256,)
    return float(np.abs(difference).mean()) <= MAX_LEVELS
