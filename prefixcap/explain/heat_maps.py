"""Weights on an image's grid drawn over the grey photo: orange where they are high."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from prefixcap.config import PreprocessConfig

OPACITY = 0.8  # of the colour at the highest weight
COLOUR = (255, 122, 0)
UNSEEN = 0.35  # brightness of what the encoder does not see


def grid_side(count: int) -> int | None:
    """Side of the square grid with so many positions, None where they make no square."""
    side = math.isqrt(count)
    return side if side * side == count else None


def seen_box(size: tuple[int, int], config: PreprocessConfig) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, in pixels of a photo, of what a model's encoder sees of it.

    Args:
        size: width and height of the upright photo.
        config: how photos become pixels.
    """
    width, height = size
    if config.resize == "squash":
        return 0, 0, width, height
    side = min(width, height) * config.crop_px / config.resize_px
    across, down = min(side, width), min(side, height)
    left, top = (width - across) / 2, (height - down) / 2
    return round(left), round(top), round(left + across), round(top + down)


def heat_map(
    photo: Image.Image,
    weights: Sequence[float] | np.ndarray,
    box: tuple[int, int, int, int],
) -> Image.Image:
    """The photo in grey, the more orange the higher the weight; what is outside `box` is dark.

    The highest weight has the full colour, 0 has none. Between the grid's places weights are
    interpolated.

    Args:
        photo: RGB.
        weights: (N,), at least 0, of a square grid, row by row.
        box: the part of the photo that the grid covers, in its pixels.
    """
    side = math.isqrt(len(weights))
    grid = np.asarray(weights, np.float32).reshape(side, side)
    levels = Image.fromarray(grid / max(float(grid.max()), 1e-12))  # float32, not yet rounded
    levels = levels.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BICUBIC)
    opacity = np.asarray(levels).clip(0, 1) * 255 * OPACITY
    grey = photo.convert("L").convert("RGB")
    seen = grey.crop(box)
    seen.paste(COLOUR, mask=Image.fromarray(opacity.astype(np.uint8)))
    drawn = Image.blend(Image.new("RGB", photo.size), grey, UNSEEN)
    drawn.paste(seen, box[:2])
    return drawn
