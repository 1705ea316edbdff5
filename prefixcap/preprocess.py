"""A photo becomes pixels: plain Pillow and numpy, equal to transformers' Pillow processors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from prefixcap.config import PreprocessConfig, parse
from prefixcap.errors import InputError
from prefixcap.hub import model_file

PROCESSOR_FILE = "preprocessor_config.json"
COMBINED_FILE = "processor_config.json"  # newer transformers keep the image part inside this one
RESCALE = 1 / 255  # the only `rescale_factor` that we take: levels 0 to 255 become 0 to 1
LONGEST_RATIO = 100  # sides further apart are cut before scaling, see `_centre_of_ribbon`
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FILTER_NAMES = {filter_.value: name for name, filter_ in FILTERS.items()}
SUPPORT_PX = {"bilinear": 1.0, "bicubic": 2.0}  # half-width of each filter, in output pixels


def pixels(image: Image.Image, config: PreprocessConfig) -> np.ndarray:
    """Normalised pixels (3, S, S) float32 of an RGB image, S = `config.crop_px`."""
    return normalised(resized(image, config), config)


def resized(image: Image.Image, config: PreprocessConfig) -> np.ndarray:
    """Scaled and cut image, (S, S, 3) uint8, before normalising; read-only.

    Equal to the last bit to transformers' Pillow processors, except for images over 100 times as
    long as wide, which are equal but for rounding.
    """
    size, filter_ = config.crop_px, FILTERS[config.resample]
    if config.resize == "squash":
        return np.asarray(image.resize((size, size), filter_))
    if max(image.size) > LONGEST_RATIO * min(image.size):
        return np.asarray(_centre_of_ribbon(image, config))
    width, height = _scaled_size(image.size, config.resize_px)
    left, top = (width - size) // 2, (height - size) // 2
    scaled = image.resize((width, height), filter_)
    # Where the scaled image is smaller than the cut, Pillow and transformers both fill with black.
    return np.asarray(scaled.crop((left, top, left + size, top + size)))


def normalised(levels: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """Normalised pixels (..., 3, S, S) float32 from RGB levels (..., S, S, 3) uint8.

    Dividing by 255 in float32 gives, for all 256 levels, what transformers' product with 1/255 in
    float64 gives, so that every value is equal to the last bit.
    """
    channels_first = np.moveaxis(levels, -1, -3)  # (..., 3, S, S)
    values = np.empty(channels_first.shape, np.float32)
    values[...] = channels_first
    values /= np.float32(255)
    values -= np.asarray(config.mean, np.float32)[:, None, None]
    values /= np.asarray(config.std, np.float32)[:, None, None]
    return values


def preprocess_from_folder(name: str, revision: str | None = None) -> PreprocessConfig:
    """Preprocessing that the model in a folder or hub repository was trained with.

    Read from its `preprocessor_config.json`, as transformers writes it.

    Raises:
        InputError: there is no such file, or it asks for steps that are not done here.
    """
    return _from_processor(*_processor_settings(name, revision))


def _scaled_size(size: tuple[int, int], shortest_px: int) -> tuple[int, int]:
    """Width and height after scaling the shorter side to `shortest_px`; the longer is cut off."""
    width, height = size
    if width <= height:
        return shortest_px, int(shortest_px * height / width)
    return int(shortest_px * width / height), shortest_px


def _centre_of_ribbon(image: Image.Image, config: PreprocessConfig) -> Image.Image:
    """Central square of an extremely long image, without scaling all of it.

    Scaled whole, a 1 x 65,535 image would take 13 GB. Only the source region of the cut is scaled;
    Pillow may then scale rows before columns where it did not, and rounds in between.
    """
    width, height = image.size
    scaled_width, scaled_height = _scaled_size(image.size, config.resize_px)
    left = (scaled_width - config.crop_px) // 2
    top = (scaled_height - config.crop_px) // 2
    if width > height:
        region = _source_region(left, config, scaled_width, width)
        first, last, start, end = region
        part, box = image.crop((first, 0, last, height)), (start, 0.0, end, float(height))
        scaled = part.resize((config.crop_px, scaled_height), FILTERS[config.resample], box)
        return scaled.crop((0, top, config.crop_px, top + config.crop_px))
    first, last, start, end = _source_region(top, config, scaled_height, height)
    part, box = image.crop((0, first, width, last)), (0.0, start, float(width), end)
    scaled = part.resize((scaled_width, config.crop_px), FILTERS[config.resample], box)
    return scaled.crop((left, 0, left + config.crop_px, config.crop_px))


def _source_region(
    offset: int, config: PreprocessConfig, scaled: int, original: int
) -> tuple[int, int, float, float]:
    """Whole source pixels [first, last) that a cut needs, and the cut's borders within them."""
    scale = original / scaled  # source pixels per output pixel
    start, end = offset * scale, (offset + config.crop_px) * scale
    margin = SUPPORT_PX[config.resample] * max(scale, 1.0) + 1
    first, last = max(0, int(start - margin)), min(original, int(end + margin) + 1)
    return first, last, start - first, end - first


def _processor_settings(name: str, revision: str | None) -> tuple[dict[str, Any], str]:
    """Image processor settings of a model and the file they are from."""
    for filename in (PROCESSOR_FILE, COMBINED_FILE):
        path = model_file(name, filename, revision)
        settings = _read_json(path) if path else {}
        if filename == COMBINED_FILE:
            settings = settings.get("image_processor", {})
        if settings:
            return settings, str(path)
    raise InputError(
        f"{name}: has no {PROCESSOR_FILE}, which says how its photos are scaled. "
        f"Copy it from the model's own files, or set encoder.preprocess"
    )


def _read_json(path: Path) -> dict[str, Any]:
    """JSON object in a file."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not readable JSON ({error})") from error
    if not isinstance(settings, dict):
        raise InputError(f"{path}: holds a {type(settings).__name__}, expected a JSON object")
    return settings


def _from_processor(settings: dict[str, Any], source: str) -> PreprocessConfig:
    """Our settings from those of transformers' image processors."""
    _refuse_unknown_steps(settings, source)
    cut = settings.get("do_center_crop", "crop_size" in settings)
    size = settings.get("size", 224)
    values: dict[str, Any] = {
        "mean": _three(settings.get("image_mean"), PreprocessConfig().mean),
        "std": _three(settings.get("image_std"), PreprocessConfig().std),
        "resample": _filter_name(settings.get("resample", Image.Resampling.BICUBIC), source),
    }
    if cut and _shortest_edge(size) is not None:
        crop_px = _square(settings.get("crop_size", 224), source)
        values |= {"resize": "shortest", "resize_px": _shortest_edge(size), "crop_px": crop_px}
    elif not cut:
        side = _square(size, source)
        values |= {"resize": "squash", "resize_px": side, "crop_px": side}
    else:
        raise InputError(f"{source}: size {size} with a centre crop; expected a shortest_edge")
    return parse(PreprocessConfig, values, source)


def _refuse_unknown_steps(settings: dict[str, Any], source: str) -> None:
    """Raise where a processor does not do one of the steps that are always done here."""
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if not settings.get(step, True):
            raise InputError(f"{source}: {step} is off; only processors that do it are supported")
    if settings.get("do_pad"):
        raise InputError(f"{source}: do_pad is on; padded photos are not supported")
    if abs(settings.get("rescale_factor", RESCALE) - RESCALE) > 1e-12:
        raise InputError(
            f"{source}: rescale_factor is {settings['rescale_factor']}, expected 1/255"
        )


def _shortest_edge(size: Any) -> int | None:
    """Length of the shorter side that a processor's `size` asks for; a bare number means that."""
    return size.get("shortest_edge") if isinstance(size, dict) else size


def _square(size: Any, source: str) -> int:
    """Side of a square `size`: a number or equal height and width."""
    if isinstance(size, int):
        return size
    if isinstance(size, dict) and size.get("height") and size.get("height") == size.get("width"):
        return size["height"]
    raise InputError(f"{source}: size {size}, expected a square such as height 224 and width 224")


def _three(value: Any, default: tuple[float, float, float]) -> Any:
    """A mean or standard deviation per channel; one number serves all three."""
    if value is None:
        return default
    return [value] * 3 if isinstance(value, int | float) else value


def _filter_name(resample: Any, source: str) -> str:
    """Name of a Pillow filter number.

    Raises:
        InputError: any filter but bilinear and bicubic.
    """
    if resample not in FILTER_NAMES:
        raise InputError(f"{source}: resample {resample}, expected 2 (bilinear) or 3 (bicubic)")
    return FILTER_NAMES[resample]
