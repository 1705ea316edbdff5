"""Open pictures: upright RGB of a path, bytes, image or array; what is no picture, and why."""

import io
import os
import stat
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from prefixcap.errors import InputError, MissingExtraError
from prefixcap.photo_search import (
    PICTURE_SUFFIXES,
    Photo,
    PhotoSet,
    Skipped,
    find_photo_set,
    find_photos,
)
from prefixcap.rgb import image_from_array, upright_rgb

_FORMATS = (
    "JPEG PNG WEBP GIF BMP DIB TIFF JPEG2000 PPM TGA ICO ICNS PSD QOI DDS SGI PCX XBM XPM SUN "
    "CUR DCX MSP PIXAR FLI SPIDER AVIF"
)
# Left out of Pillow's readers: EPS (runs Ghostscript on the file), and the formats that hold no
# picture without a plug-in of their own. A photo never needs them, an attacker might.
# AVIF is last, since a Pillow built without it raises KeyError on reaching the name.
PICTURE_FORMATS = tuple(_FORMATS.split())
HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
MAX_PIXELS = 178_956_970  # twice Pillow's MAX_IMAGE_PIXELS, where Pillow itself refuses

__all__ = [
    "PICTURE_SUFFIXES",
    "Photo",
    "PhotoSet",
    "Skipped",
    "Source",
    "UnreadableImage",
    "find_photo_set",
    "find_photos",
    "open_rgb",
]

Source = str | Path | bytes | Image.Image | np.ndarray
_opening = threading.Lock()  # warnings.catch_warnings is not safe between threads


class UnreadableImage(InputError):
    """A picture cannot be opened; `reason` says why without its name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return UnreadableImage, (str(self).removesuffix(f": {self.reason}"), self.reason)


def open_rgb(source: Source, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Upright RGB image of a path, of encoded bytes, of a Pillow image or of an array (H, W, C).

    EXIF orientation is applied, transparency laid over white, 16-bit and float values scaled to 8
    bits, and an animation gives its first frame.

    Raises:
        UnreadableImage: the reason in one line: missing, no picture, cut off, too large.
    """
    name = _name(source)
    try:
        if isinstance(source, np.ndarray):
            return image_from_array(source)
        if isinstance(source, Image.Image):
            return upright_rgb(source)
        with _opened(source, max_pixels) as image:
            return upright_rgb(image)
    except UnreadableImage as error:
        raise UnreadableImage(name, error.reason) from error
    except Exception as error:  # a damaged file makes a decoder raise anything, even IndexError
        raise UnreadableImage(name, _reason(error)) from error


def _name(source: Source) -> str:
    """What messages call a picture."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, bytes):
        return f"picture of {len(source)} bytes"
    return f"picture of type {type(source).__name__}"


def _opened(source: str | Path | bytes, max_pixels: int) -> Image.Image:
    """Pillow image with its header read, of a kind and size that may be decoded."""
    if not isinstance(source, str | Path | bytes):
        raise UnreadableImage("", "expected a path, bytes, a Pillow image or an array")
    if not isinstance(source, bytes):
        _check_is_file(Path(source))
    head = source[:16] if isinstance(source, bytes) else _first_bytes(Path(source))
    if not head:
        raise UnreadableImage("", "the file is empty")
    formats = (*PICTURE_FORMATS, "HEIF") if _is_heif(head) else PICTURE_FORMATS
    if formats is not PICTURE_FORMATS:
        _register_heif()
    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is checked below; odd EXIF is no error
            content = io.BytesIO(source) if isinstance(source, bytes) else source
            image = Image.open(content, formats=formats)
    except (Image.UnidentifiedImageError, KeyError) as error:
        raise UnreadableImage("", _foreign(head)) from error
    if image.width * image.height > max_pixels:
        image.close()
        raise UnreadableImage("", _too_large(f"{image.width} x {image.height} pixels", max_pixels))
    return image


def _check_is_file(path: Path) -> None:
    """Nothing, or an error where opening `path` would fail or wait for ever."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        os.scandir(path).close()  # says so where the folder may not be listed
        raise UnreadableImage("", "is a folder, expected a picture")
    if not stat.S_ISREG(mode):
        raise UnreadableImage("", "is a device or pipe, expected a picture file")


def _first_bytes(path: Path) -> bytes:
    """The first 16 bytes, which name the format."""
    with path.open("rb") as file:
        return file.read(16)


def _is_heif(head: bytes) -> bool:
    """True for the still pictures of phones: an ISO base media file with a HEIF brand."""
    return head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS


def _register_heif() -> None:
    """Pillow reads HEIF after this call."""
    try:
        import pillow_heif
    except ImportError as error:
        missing = MissingExtraError("pillow-heif", "heic", "a HEIC photo")
        raise UnreadableImage("", str(missing)) from error
    pillow_heif.register_heif_opener()


def _foreign(head: bytes) -> str:
    """What a file is that no reader knows, from its first bytes."""
    if head.lstrip()[:1] == b"<":
        return "is a web page or other markup, not a picture; download it again"
    if head[:4] == b"%PDF":
        return "is a PDF, not a picture"
    return f"is not a picture of a known format (it begins with {head[:8]!r})"


def _too_large(found: str, max_pixels: int) -> str:
    """Why an enormous picture is refused."""
    limit = f"{max_pixels / 1e6:.0f} million"
    return f"has {found}, more than the limit of {limit}; make a smaller copy"


def _reason(error: Exception) -> str:
    """One line that says why a picture could not be read."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.DecompressionBombError):
        return _too_large("an enormous number of pixels", MAX_PIXELS)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, MemoryError):
        return "is too large for the memory of this machine"
    return " ".join(str(error).split()) or f"is damaged ({type(error).__name__})"
