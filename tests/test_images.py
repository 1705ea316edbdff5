"""Opening pictures: every format is encoded for real, opened, and compared with what was drawn."""

import os
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from prefixcap.errors import InputError
from prefixcap.images import PICTURE_FORMATS, UnreadableImage, open_rgb
from tests.encoded_pictures import difference, draw_scene, encoded, png


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    return draw_scene()


LOSSLESS = "PNG BMP TIFF PPM TGA JPEG2000 PCX SGI QOI"


@pytest.mark.parametrize("kind", LOSSLESS.split())
def test_lossless_formats_come_back_unchanged(scene, kind):
    assert difference(open_rgb(encoded(scene, kind)), scene) == 0


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "MPO"])
def test_lossy_formats_come_back_almost_unchanged(scene, kind):
    if kind == "AVIF" and sys.platform == "win32":
        pytest.skip("AVIF is not part of every Pillow build")
    assert difference(open_rgb(encoded(scene, kind, quality=95)), scene) < 4


def test_heic_is_read_with_the_extra(scene):
    heif = pytest.importorskip("pillow_heif", reason="the heic extra is not installed")
    heif.register_heif_opener()
    content = encoded(scene, "HEIF", quality=95)
    assert difference(open_rgb(content), scene) < 4


def test_heic_without_the_extra_names_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnreadableImage, match=r'pip install "prefixcap\[heic\]"'):
        open_rgb(b"\x00\x00\x00\x18ftypheic" + bytes(64))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    red, green, blue = open_rgb(content).getpixel((8, 8))
    assert red > 240 and green < 15 and blue < 15


TRUNCATED = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF", "QOI"]


@pytest.mark.parametrize("kind", TRUNCATED)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_cut_off_file_is_refused_by_name(scene, kind, share, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    path = tmp_path / "cut.jpg"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UnreadableImage, match=r"cut\.jpg: \w+") as caught:
        open_rgb(path)
    assert "\n" not in str(caught.value)


def test_what_is_not_a_picture_is_named(tmp_path):
    cases = {
        "gone.jpg": (None, "no such file"),
        "empty.jpg": (b"", "is empty"),
        "page.jpg": (b"\n<!DOCTYPE html><html>404</html>", "web page"),
        "paper.png": (b"%PDF-1.7\n", "is a PDF"),
        "noise.png": (b"\x01\x02\x03\x04 nothing", "not a picture of a known format"),
    }
    for name, (content, reason) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImage, match=reason) as caught:
            open_rgb(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(UnreadableImage, match="is a folder"):
        open_rgb(tmp_path)
    with pytest.raises(UnreadableImage, match="expected a path, bytes"):
        open_rgb(7)


def test_a_pipe_is_refused_at_once(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no named pipes on this system")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableImage, match="device or pipe"):
        open_rgb(tmp_path / "pipe.jpg")


def test_an_unreadable_file_says_permission_denied(tmp_path):
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("root may read every file")
    path = tmp_path / "secret.png"
    Image.new("RGB", (2, 2)).save(path)
    path.chmod(0)
    with pytest.raises(UnreadableImage, match="permission denied"):
        open_rgb(path)


def test_postscript_is_never_executed():
    assert "EPS" not in PICTURE_FORMATS
    with pytest.raises(UnreadableImage, match="known format"):
        open_rgb(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


def test_an_enormous_picture_is_refused_before_it_is_decoded():
    side = 60_000  # 3.6 billion pixels in a file of 45 bytes
    with pytest.raises(UnreadableImage, match="limit of 179 million"):
        open_rgb(png((side, side), 1, 0, b""))
    with pytest.raises(UnreadableImage, match=r"100 x 90 pixels.*make a smaller copy"):
        open_rgb(png((100, 90), 1, 0, b""), max_pixels=8_999)


def test_a_large_picture_below_the_limit_is_read_without_a_warning(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow warns above it, refuses at twice
    assert open_rgb(encoded(Image.new("L", (40, 40)), "PNG")).size == (40, 40)


def test_the_error_survives_the_way_between_processes():
    error = UnreadableImage("a: b.jpg", "is empty: truly")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.reason) == (str(error), error.reason)
    assert isinstance(again, InputError)
