"""The frame of all pages: whole in one file, and photos no larger than they are shown."""

import base64
import io

import pytest
from PIL import Image

from prefixcap.web_page import packaged, photo_uri, web_page

STYLES = ("dataset_sheet.css", "demo.css", "explain/page.css", "report/page.css")


@pytest.mark.parametrize("style", STYLES)
def test_a_page_is_whole_and_has_its_style_after_the_shared_one(style):
    page = web_page("a &amp; b", "<p>$title ${body}</p>", style)
    assert page.count("<title>a &amp; b</title>") == 1
    assert "<body>\n<p>$title ${body}</p>\n</body>" in page
    assert 0 < page.index(packaged("page.css")) < page.index(packaged(style))
    assert not any(fetched in page for fetched in ("http", "url(", "@import", "<link"))


@pytest.mark.parametrize("style", STYLES)
def test_every_colour_that_a_page_uses_is_set_in_light_and_in_dark(style):
    page = web_page("", "", style).replace(" ", "")
    used = {part.partition(")")[0] for part in page.split("var(")[1:]}
    assert used
    for name in used:
        assert page.count(f"{name}:#") >= 2, name


def test_a_photo_keeps_its_shape_and_is_never_enlarged():
    for size, shown in (((400, 100), (80, 20)), ((30, 60), (30, 60))):
        kind, _, data = photo_uri(Image.new("RGB", size), 80).partition(";base64,")
        assert kind == "data:image/jpeg"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == shown
