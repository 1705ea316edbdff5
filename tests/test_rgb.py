"""Every mode, depth and turn of a picture becomes the upright 8-bit RGB that was drawn."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from prefixcap.images import UnreadableImage, open_rgb
from tests.encoded_pictures import (
    HEIGHT,
    WIDTH,
    difference,
    draw_scene,
    encoded,
    png,
    png_chunk,
)


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    return draw_scene()


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),  # stored a quarter turn to the left, shown turned to the right
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", sorted(TURNS))
def test_exif_orientation_is_undone(scene, kind, orientation):
    stored = Image.fromarray(np.ascontiguousarray(TURNS[orientation](np.asarray(scene))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = open_rgb(encoded(stored, kind, exif=exif, quality=95))
    assert difference(opened, scene) < 4


def test_orientation_of_a_pillow_image_is_undone_once(scene):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = scene.transpose(Image.Transpose.ROTATE_90)
    opened = Image.open(io.BytesIO(encoded(turned, "PNG", exif=exif)))
    once = open_rgb(opened)
    assert difference(once, scene) == 0
    assert difference(open_rgb(once), scene) == 0


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_impossible_orientation_turns_nothing(scene, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert difference(open_rgb(encoded(scene, "PNG", exif=exif)), scene) == 0


def test_a_broken_exif_block_does_not_cost_the_picture(scene):
    content = encoded(scene, "PNG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff" + b"\xff" * 40)
    assert difference(open_rgb(content), scene) == 0


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_over_white(scene, kind):
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[:, WIDTH // 2 :] = 255
    image = scene.convert("RGBA")
    image.putalpha(Image.fromarray(alpha))
    options = {"lossless": True} if kind == "WEBP" else {}
    opened = np.asarray(open_rgb(encoded(image, kind, **options)))
    assert (opened[:, : WIDTH // 2] == 255).all()
    assert (opened[:, WIDTH // 2 :] == np.asarray(scene)[:, WIDTH // 2 :]).all()


def test_half_transparent_black_over_white_is_grey():
    image = Image.new("LA", (4, 4), (0, 128))
    assert open_rgb(encoded(image, "PNG")).getpixel((0, 0)) == (127, 127, 127)


def test_palette_pictures_keep_colours_and_transparency():
    image = Image.new("P", (4, 2))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    for content in (
        encoded(image, "PNG"),
        encoded(image, "GIF"),
        encoded(image, "TIFF"),
        encoded(image, "BMP"),
    ):
        opened = open_rgb(content)
        assert opened.getpixel((0, 0)) == (255, 0, 0) and opened.getpixel((1, 0)) == (0, 0, 255)
    for content in (encoded(image, "PNG", transparency=0), encoded(image, "GIF", transparency=0)):
        opened = open_rgb(content)
        assert opened.getpixel((0, 0)) == (255, 255, 255)
        assert opened.getpixel((1, 0)) == (0, 0, 255)


def test_palette_with_an_alpha_for_each_colour_is_laid_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    opened = open_rgb(encoded(image, "PNG", transparency=bytes([128, 255])))
    assert opened.getpixel((0, 0)) == (127, 127, 127) and opened.getpixel((1, 0)) == (0, 0, 255)


def test_a_transparent_colour_of_an_rgb_picture_is_white():
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    opened = open_rgb(encoded(image, "PNG", transparency=(1, 2, 3)))
    assert opened.getpixel((0, 0)) == (255, 255, 255) and opened.getpixel((1, 0)) == (9, 9, 9)


def test_one_bit_pictures_are_black_and_white():
    image = Image.new("1", (3, 1))
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "TIFF", "PPM", "XBM", "MSP"):
        opened = open_rgb(encoded(image, kind))
        values = [opened.getpixel((x, 0))[0] for x in range(3)]
        assert values == [0, 255, 0], kind


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(kind):
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    opened = np.asarray(open_rgb(encoded(Image.fromarray(levels), kind)))
    expected = np.rint(levels / 257)
    assert np.abs(opened - expected[:, :, None]).max() <= 1


def test_a_dark_16_bit_picture_stays_dark():
    levels = np.full((4, 4), 200, np.uint16)  # below 256: a rule by content would show it as light
    for kind in ("PNG", "TIFF", "PPM"):
        assert np.asarray(open_rgb(encoded(Image.fromarray(levels), kind))).max() <= 1, kind


def test_16_bit_colour_and_grey_with_alpha_of_png():
    colour = png((2, 1), 16, 2, b"\x00" + struct.pack(">6H", 0, 32896, 65535, 257, 514, 771))
    assert np.abs(np.asarray(open_rgb(colour), int) - [[(0, 128, 255), (1, 2, 3)]]).max() <= 1
    alpha = png((2, 1), 16, 4, b"\x00" + struct.pack(">4H", 0, 0, 32896, 65535))
    assert np.abs(np.asarray(open_rgb(alpha), int)[:, :, 0] - [[255, 128]]).max() <= 1


def test_a_transparent_16_bit_grey_level_is_white():
    rows = b"\x00" + struct.pack(">2H", 1000, 65535)
    content = png((2, 1), 16, 0, rows, png_chunk(b"tRNS", struct.pack(">H", 1000)))
    assert np.asarray(open_rgb(content))[0, :, 0].tolist() == [255, 255]
    content = png((2, 1), 16, 0, rows, png_chunk(b"tRNS", struct.pack(">H", 65535)))
    assert np.asarray(open_rgb(content))[0, :, 0].tolist() == [4, 255]


def test_float_pictures_are_scaled():
    ramp = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    for kind in ("TIFF", "PPM"):
        opened = np.asarray(open_rgb(encoded(Image.fromarray(ramp), kind)))
        assert np.abs(opened[:, :, 0] - ramp * 255).max() <= 0.5 + 1e-4, kind
    stretched = np.asarray(open_rgb(encoded(Image.fromarray(ramp * 1e9 - 5e8), "TIFF")))
    assert np.abs(stretched[:, :, 0] - ramp * 255).max() <= 0.6


def test_cmyk_and_ycc_and_lab_become_rgb(scene):
    assert difference(open_rgb(encoded(scene.convert("CMYK"), "TIFF")), scene) < 1
    assert difference(open_rgb(encoded(scene.convert("CMYK"), "JPEG", quality=95)), scene) < 4
    assert difference(open_rgb(encoded(scene.convert("YCbCr"), "TIFF")), scene) < 3
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    as_lab = ImageCms.profileToProfile(scene, srgb, lab, outputMode="LAB")
    assert difference(open_rgb(encoded(as_lab, "TIFF")), scene) < 4


def test_arrays_of_each_kind(scene):
    pixels = np.asarray(scene)
    assert difference(open_rgb(pixels), scene) == 0
    assert difference(open_rgb(np.asfortranarray(pixels)), scene) == 0
    assert difference(open_rgb(pixels.astype(np.float32) / 255), scene) == 0
    assert difference(open_rgb(pixels.astype(np.float64)), scene) == 0
    assert difference(open_rgb(pixels.astype(np.int64)), scene) == 0
    assert difference(open_rgb(pixels.astype(np.uint16) * 257), scene) == 0
    grey = open_rgb(pixels[:, :, 0])
    assert (np.asarray(grey) == pixels[:, :, :1]).all()
    assert difference(open_rgb(pixels[:, :, :1]), grey) == 0
    assert open_rgb(np.array([[True, False]])).getpixel((0, 0)) == (255, 255, 255)
    clear = np.dstack([pixels, np.zeros((HEIGHT, WIDTH), np.uint8)])
    assert (np.asarray(open_rgb(clear)) == 255).all()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "expected \\(height, width, 3\\)"),
        (np.zeros((0, 8, 3), np.uint8), "no pixel"),
        (np.full((2, 2), np.nan), "NaN"),
        (np.zeros((2, 2), complex), "complex"),
    ],
)
def test_arrays_that_are_no_picture_are_refused(array, reason):
    with pytest.raises(UnreadableImage, match=reason):
        open_rgb(array)
