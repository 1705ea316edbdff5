"""Pixels equal those of transformers' Pillow processors, to the last bit."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from prefixcap.config import PreprocessConfig
from prefixcap.errors import InputError
from prefixcap.preprocess import (
    normalised,
    pixels,
    preprocess_from_folder,
    resized,
)

CLIP = PreprocessConfig()
SMALL_CLIP = PreprocessConfig(crop_px=32, resize_px=32)
HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(1, 1), (1, 7), (7, 1), (2, 3), (31, 33), (33, 31), (32, 32), (208, 208), (640, 480)]
SIZES += [(480, 640), (427, 640), (333, 500), (100, 999), (999, 100), (225, 224), (224, 225)]
SIZES += [(1, 99), (3, 300), (300, 3), (1001, 17), (63, 64), (65, 129)]


def random_image(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise, the hardest content for equality of resampling."""
    rng = np.random.default_rng([seed, width, height])
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def clip_processor(config: PreprocessConfig) -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(
        size={"shortest_edge": config.resize_px},
        crop_size={"height": config.crop_px, "width": config.crop_px},
    )


def of_processor(processor, image: Image.Image) -> np.ndarray:
    """Pixels (3, S, S) of a transformers processor."""
    return np.asarray(processor(image)["pixel_values"][0])


def photos(data_dir: Path) -> list[Path]:
    """A few real photos of all shapes."""
    folders = ["coco/style_images", "coco/photos", "flickr8k", "unlabelled"]
    found = [sorted((data_dir / folder).rglob("*.jpg")) for folder in folders]
    return [path for paths in found for path in paths[:: max(1, len(paths) // 12)]]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_clip_pixels_equal_transformers_on_any_size(size):
    image = random_image(*size)
    expected = of_processor(CLIPImageProcessorPil(), image)
    found = pixels(image, CLIP)
    assert found.dtype == np.float32 and found.shape == (3, 224, 224)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("seed", range(40))
def test_pixels_equal_transformers_on_random_sizes_and_settings(seed):
    rng = np.random.default_rng(seed)
    width, height = rng.integers(1, 200, 2)
    resize_px, crop_px = rng.integers(8, 90, 2)  # the cut may be larger than the scaled image
    config = PreprocessConfig(resize_px=int(resize_px), crop_px=int(crop_px))
    image = random_image(int(width), int(height), seed)
    assert np.array_equal(pixels(image, config), of_processor(clip_processor(config), image))


def test_clip_pixels_equal_transformers_on_real_photos(data_dir):
    processor, paths = CLIPImageProcessorPil(), photos(data_dir)
    assert len(paths) > 20
    for path in paths:
        image = Image.open(path).convert("RGB")
        assert np.array_equal(pixels(image, CLIP), of_processor(processor, image)), path.name


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(64, 48), (48, 64), (300, 200), (5, 5), (1, 90)], ids=str)
def test_siglip_is_a_squash_with_mean_and_std_of_a_half(size, resample):
    config = PreprocessConfig(
        crop_px=56, resize_px=56, resize="squash", resample=resample, mean=HALF, std=HALF
    )
    number = {"bilinear": 2, "bicubic": 3}[resample]
    processor = SiglipImageProcessorPil(size={"height": 56, "width": 56}, resample=number)
    image = random_image(*size)
    assert np.array_equal(pixels(image, config), of_processor(processor, image))


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (500, 333), (257, 256)], ids=str)
def test_dinov2_cuts_224_out_of_256(size):
    config = PreprocessConfig(crop_px=224, resize_px=256, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    processor = BitImageProcessorPil(
        size={"shortest_edge": 256}, image_mean=list(IMAGENET_MEAN), image_std=list(IMAGENET_STD)
    )
    image = random_image(*size)
    assert np.array_equal(pixels(image, config), of_processor(processor, image))


@pytest.mark.parametrize("size", [(3, 400), (400, 3), (40, 5000), (5000, 40)], ids=str)
def test_smooth_ribbons_are_equal_within_two_levels(size):
    image = random_image(*(-(-side // 10) for side in size)).resize(size)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
    )
    expected = np.moveaxis(of_processor(processor, image), 0, -1) * 255
    assert np.abs(resized(image, SMALL_CLIP) - expected).max() < 2.01


def test_the_longest_jpeg_is_scaled_without_gigabytes():
    image = random_image(65535, 1)
    assert pixels(image, CLIP).shape == (3, 224, 224)  # 13 GB if it were scaled whole


def test_normalising_a_batch_is_normalising_each_image():
    levels = np.stack([resized(random_image(40, 50, seed), SMALL_CLIP) for seed in range(3)])
    batch = normalised(levels, SMALL_CLIP)
    assert batch.shape == (3, 3, 32, 32)
    for levels_of_one, values in zip(levels, batch, strict=True):
        assert np.array_equal(normalised(levels_of_one, SMALL_CLIP), values)


@pytest.mark.parametrize(
    "processor",
    [
        CLIPImageProcessorPil(),
        CLIPImageProcessorPil(size=336, crop_size=336),
        SiglipImageProcessorPil(size={"height": 384, "width": 384}, resample=2),
        BitImageProcessorPil(size={"shortest_edge": 256}, image_mean=list(IMAGENET_MEAN)),
    ],
    ids=["clip", "clip336", "siglip384", "dinov2"],
)
def test_settings_saved_by_transformers_give_its_pixels(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    config = preprocess_from_folder(str(tmp_path))
    image = random_image(97, 61)
    assert np.array_equal(pixels(image, config), of_processor(processor, image))


def test_openai_style_settings_with_bare_sizes_are_clip(tmp_path):
    write_settings(tmp_path, size=224, crop_size=224, do_center_crop=True, resample=3)
    assert preprocess_from_folder(str(tmp_path)) == CLIP


def test_the_image_part_of_a_combined_processor_file_is_read(tmp_path):
    nested = {"image_processor": {"size": {"height": 64, "width": 64}, "do_center_crop": False}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert preprocess_from_folder(str(tmp_path)).crop_px == 64


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"do_resize": False}, "do_resize is off"),
        ({"do_pad": True}, "do_pad is on"),
        ({"rescale_factor": 1 / 127.5}, "expected 1/255"),
        ({"resample": 1}, "resample 1, expected 2"),
        ({"size": {"height": 64, "width": 32}, "do_center_crop": False}, "expected a square"),
        ({"size": {"height": 64, "width": 64}, "do_center_crop": True}, "shortest_edge"),
        ({"image_mean": [0.5, 0.5], "crop_size": 224}, "mean"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_done_is_refused_in_one_line(settings, said, tmp_path):
    write_settings(tmp_path, **settings)
    with pytest.raises(InputError, match=said) as raised:
        preprocess_from_folder(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_missing_and_broken_settings_are_named(tmp_path):
    with pytest.raises(InputError, match=r"has no preprocessor_config\.json"):
        preprocess_from_folder(str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(InputError, match="not readable JSON"):
        preprocess_from_folder(str(tmp_path))
    with pytest.raises(InputError, match="does not exist"):
        preprocess_from_folder(str(tmp_path / "absent"))


def test_preprocessing_does_not_import_torch():
    code = "import prefixcap.preprocess, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def write_settings(folder: Path, **settings) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
