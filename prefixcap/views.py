"""Training photos in memory, and random views of them: crops, mirror images, light."""

import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from prefixcap.config import PreprocessConfig
from prefixcap.datasets.stored_photos import photo_source
from prefixcap.images import Skipped, UnreadableImage, open_rgb
from prefixcap.preprocess import normalised
from prefixcap.recipe import ViewConfig

RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class View:
    """One look at a photo: `box` (left, top, right, bottom) as shares of the squashed photo."""

    box: tuple[float, float, float, float]
    mirrored: bool
    brightness: float
    contrast: float


WHOLE = View((0.0, 0.0, 1.0, 1.0), False, 1.0, 1.0)


def draw_view(config: ViewConfig, generator: np.random.Generator) -> View:
    """Random view: crop of an area in min_area..1 with an aspect in 1/max_aspect..max_aspect."""
    area = generator.uniform(config.min_area, 1.0)
    aspect = np.exp(generator.uniform(-1, 1) * np.log(config.max_aspect))
    width = min(1.0, float(np.sqrt(area * aspect)))
    height = min(1.0, float(np.sqrt(area / aspect)))
    left = generator.uniform(0, 1 - width)
    top = generator.uniform(0, 1 - height)
    mirrored = bool(config.mirror and generator.random() < 0.5)
    brightness, contrast = generator.uniform(1 - config.light, 1 + config.light, 2).tolist()
    return View((left, top, left + width, top + height), mirrored, brightness, contrast)


def stored_view(config: ViewConfig, image_id: str, number: int) -> View:
    """The view of a photo that a store holds as `number`: 0 the whole photo, else one of its crops.

    A crop follows from the id alone; neither mirrored nor lit otherwise.
    """
    if number == 0:
        return WHOLE
    generator = np.random.default_rng((zlib.crc32(image_id.encode()), number))
    return View(draw_view(config, generator).box, False, 1.0, 1.0)


def stored_id(image_id: str, number: int) -> str:
    """Id under which a store holds that view."""
    return image_id if number == 0 else f"{image_id}::view{number}"


def inside(outer: View, inner: View) -> View:
    """The view of the photo that `inner` is of what `outer` shows."""
    left, top, right, bottom = outer.box
    width, height = right - left, bottom - top
    a, b, c, d = inner.box
    a, c = (1 - c, 1 - a) if outer.mirrored else (a, c)
    return View(
        (left + a * width, top + b * height, left + c * width, top + d * height),
        outer.mirrored != inner.mirrored,
        outer.brightness * inner.brightness,
        outer.contrast * inner.contrast,
    )


def cut(photo: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """The part of a photo that `box` names in shares of its sides, to whole pixels."""
    width, height = photo.size
    left, top = round(box[0] * width), round(box[1] * height)
    right, bottom = round(box[2] * width), round(box[3] * height)
    return photo.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


class PhotoArray:
    """Photos squashed to (S, S, 3) uint8, all in memory; unreadable ones are in `skipped`."""

    def __init__(
        self,
        paths: Sequence[Path],
        stored_px: int,
        on_progress: Callable[[int], None] | None = None,
        threads: int = 2,
    ) -> None:
        self.pixels = np.zeros((len(paths), stored_px, stored_px, 3), np.uint8)
        self.skipped: list[Skipped] = []
        self.readable = np.ones(len(paths), bool)
        with ThreadPoolExecutor(threads) as pool:
            loaded = pool.map(lambda path: _squashed(path, stored_px), paths)
            for row, result in enumerate(loaded):
                if isinstance(result, str):
                    self.skipped.append(Skipped(str(paths[row]), result))
                    self.readable[row] = False
                else:
                    self.pixels[row] = result
                if on_progress:
                    on_progress(row + 1)

    def leave_out(self, rows: np.ndarray) -> None:
        """Count these (M,) bool as unreadable too."""
        self.readable &= ~rows

    def view(self, row: int, view: View, config: PreprocessConfig) -> np.ndarray:
        """Pixels (3, crop_px, crop_px) float32 of one view, resized as at inference."""
        side = self.pixels.shape[1]
        box = tuple(edge * side for edge in view.box)
        photo = Image.fromarray(self.pixels[row])
        size = (config.crop_px, config.crop_px)
        cut = photo.resize(size, RESAMPLE[config.resample], box=box)
        pixels = normalised(np.asarray(cut), config)
        pixels = pixels[:, :, ::-1] if view.mirrored else pixels
        return np.ascontiguousarray(pixels * view.contrast + (view.brightness - 1.0))


def _squashed(path: Path, side: int) -> np.ndarray | str:
    """Photo as (side, side, 3) uint8, or the reason why it cannot be read."""
    try:
        image = open_rgb(photo_source(path))
    except UnreadableImage as error:
        return str(error)
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image)
