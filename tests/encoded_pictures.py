"""Pictures that tests draw, encode and compare."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 48, 32


def draw_scene() -> Image.Image:
    """Smooth RGB picture whose four corners differ, so that every turn of it shows."""
    x = np.linspace(0, 255, WIDTH)[None, :].repeat(HEIGHT, 0)
    y = np.linspace(0, 255, HEIGHT)[:, None].repeat(WIDTH, 1)
    return Image.fromarray(np.stack([x, y, (x + y) / 2], -1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """`image` as a file of this kind."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of two RGB pictures of one size."""
    assert a.mode == b.mode == "RGB" and a.size == b.size
    return float(np.abs(np.asarray(a, int) - np.asarray(b, int)).mean())


def png(size: tuple[int, int], bits: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """PNG of raw scanlines: Pillow itself cannot write 16-bit colour."""
    header = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + png_chunk(b"IEND", b"")


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Chunk of a PNG file, with its checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
