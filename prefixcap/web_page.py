"""What all HTML pages share: the head, the colours of light and dark, photos inside the page."""

import base64
import io
from pathlib import Path
from string import Template

from PIL import Image

JPEG_QUALITY = 82


def web_page(title: str, body: str, style: str) -> str:
    """A page as HTML, complete without any other file.

    Args:
        title: as HTML.
        body: as HTML.
        style: name of the package's style sheet that follows the shared one.
    """
    styles = packaged("page.css") + packaged(style)
    return Template(packaged("page.html")).substitute(title=title, style=styles, body=body)


def packaged(name: str) -> str:
    """Text of a template or style sheet of the package."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def photo_uri(image: Image.Image, longest_px: int) -> str:
    """RGB `image` as a JPEG inside a data URI, at most so large on its longest side."""
    shown = image.copy()
    shown.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    shown.save(written, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode("ascii")
