"""Any picture mode or array as 8-bit RGB: depth scaled, alpha over white, upright."""

import numpy as np
from PIL import Image, ImageCms

ORIENTATION = 0x0112  # EXIF 2.3, section 4.6.4: tag 274
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def upright_rgb(image: Image.Image) -> Image.Image:
    """`image` as an RGB image that stands upright; the pixels of 8-bit RGB are not touched.

    Colour profiles are not applied, as in CLIP's own preprocessing.

    Raises:
        ValueError: the pixel values cannot be shown, such as NaN.
    """
    image.load()
    turn = UPRIGHT.get(_orientation(image))  # after load: TIFF turns itself there
    image = _rgb(image)
    if turn is None:
        return image
    image = image.transpose(turn)
    image.info = {}  # else the orientation would be found, and undone, a second time
    return image


def image_from_array(array: np.ndarray) -> Image.Image:
    """RGB image from an array (H, W), (H, W, 1), (H, W, 2), (H, W, 3) or (H, W, 4).

    Two channels are grey and alpha, four are RGB and alpha. uint8 is taken as it is, bool as black
    and white; other numbers are scaled by the rule of `eight_bits`.

    Raises:
        ValueError: another shape or type, or values that cannot be shown.
    """
    array = np.asarray(array)
    if array.ndim == 2:
        array = array[:, :, None]  # (H, W, 1)
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        hint = "; transpose(1, 2, 0) puts the channels last" if array.shape[:1] == (3,) else ""
        raise ValueError(f"has shape {array.shape}, expected (height, width, 3){hint}")
    if 0 in array.shape:
        raise ValueError(f"has shape {array.shape}, which holds no pixel")
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[array.shape[2]]
    pixels = np.ascontiguousarray(eight_bits(array))
    height, width = pixels.shape[:2]
    return _rgb(Image.frombytes(mode, (width, height), pixels.tobytes()))


def eight_bits(array: np.ndarray) -> np.ndarray:
    """`array` scaled to uint8 0..255, same shape, rounded; never clipped.

    uint8 stays; bool becomes 0 and 255; uint16 is divided by 257. Other types do not say their
    white, so the values decide: floats within 0..1 are multiplied by 255, values within 0..255
    are kept, values within 0..65535 are divided by 257, and anything else is stretched from its
    minimum to its maximum.

    Raises:
        ValueError: the array holds NaN, infinity, or no real numbers at all.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return _rounded(array / 257.0)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"holds values of type {array.dtype}, expected numbers")
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("holds NaN or infinite values")
    low, high = values.min(), values.max()
    if low >= 0 and high <= 1 and array.dtype.kind == "f":
        return _rounded(values * 255)
    if low >= 0 and high <= 255:
        return _rounded(values)
    if low >= 0 and high <= 65535:
        return _rounded(values / 257)
    return _rounded((values - low) * (255 / max(high - low, np.finfo(np.float64).tiny)))


def _rounded(values: np.ndarray) -> np.ndarray:
    """uint8 of values within 0..255, rounded to nearest."""
    return np.rint(values).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none or where the EXIF block is broken."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a broken EXIF block raises anything; the picture itself may be whole
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    """`image` in mode RGB: depth scaled to 8 bits, transparency laid over white."""
    if image.mode in DEEP_MODES:
        image = _eight_bit_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode == "LAB":
        return _from_lab(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bit_grey(image: Image.Image) -> Image.Image:
    """Mode L of a deep grey image; a 16-bit transparent grey level is kept as alpha."""
    values = np.asarray(image)
    if image.mode.startswith("I;16") or _is_16_bit(image, values):
        values = values.astype(np.uint16)
    grey = Image.fromarray(eight_bits(values))
    level = image.info.get("transparency")
    if isinstance(level, int):
        opaque = Image.fromarray(np.where(np.asarray(image) == level, 0, 255).astype(np.uint8))
        return Image.merge("LA", (grey, opaque))
    return grey


def _is_16_bit(image: Image.Image, values: np.ndarray) -> bool:
    """True for the 32-bit mode that Pillow uses for the 16-bit pictures of PNG and PGM."""
    formats = ("PNG", "PPM", "JPEG2000")
    return (
        image.mode == "I"
        and image.format in formats
        and values.min() >= 0
        and values.max() <= 65535
    )


def _from_lab(image: Image.Image) -> Image.Image:
    """sRGB image of a CIE L*a*b* one, which Pillow converts only through a colour profile."""
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
