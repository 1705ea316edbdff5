"""`show`: one HTML file with a fixed random sample, text escaped, pictures inside."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from prefixcap.dataset_sheet import Sheet, SheetOptions, show
from prefixcap.errors import InputError
from tests.datasets.conftest import put_photos


class Page(HTMLParser):
    """Collects tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def put_jsonl(folder: Path, captions: list[str]) -> Path:
    names = [f"{n}.jpg" for n in range(len(captions))]
    put_photos(folder, *names)
    rows = [{"image": name, "caption": text} for name, text in zip(names, captions, strict=True)]
    path = folder / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_sheet_holds_its_pictures_and_fetches_nothing(tmp_path: Path):
    path = put_jsonl(tmp_path, [f"caption {n}" for n in range(5)])
    options = SheetOptions(samples=3, thumbnail_px=20)
    assert show("jsonl", path, tmp_path / "sheet.html", options=options) == Sheet(3, ())
    page = Page((tmp_path / "sheet.html").read_text(encoding="utf-8"))
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 3 and len(re.findall(r"caption \d", page.text)) == 3
    for source in sources:
        found = re.fullmatch(r"data:image/jpeg;base64,(.+)", source or "")
        assert found is not None
        assert Image.open(io.BytesIO(base64.b64decode(found[1]))).size == (20, 20)
    assert not [
        tag for tag, attributes in page.tags if tag in ("link", "script") or "href" in attributes
    ]


def test_markup_in_captions_is_text(tmp_path: Path):
    caption = '<script>alert("x")</script> & <img src=x onerror=1> \u2028\x07 caf\u00e9'
    path = put_jsonl(tmp_path, [caption])
    show("jsonl", path, tmp_path / "sheet.html")
    page = Page((tmp_path / "sheet.html").read_text(encoding="utf-8"))
    assert [tag for tag, _ in page.tags].count("img") == 1
    assert "script" not in [tag for tag, _ in page.tags]
    assert '<script>alert("x")</script> & <img src=x onerror=1> \\u2028\\x07 caf\u00e9' in page.text


def test_same_seed_gives_the_same_sheet_and_another_another(tmp_path: Path):
    path = put_jsonl(tmp_path, [f"caption {n}" for n in range(40)])
    pages = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        show("jsonl", path, tmp_path / name, options=SheetOptions(samples=5, seed=seed))
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1] != pages[2]


def test_missing_photo_is_shown_as_the_reason(tmp_path: Path):
    path = put_jsonl(tmp_path, ["one", "two"])
    (tmp_path / "1.jpg").unlink()
    found = show("jsonl", path, tmp_path / "sheet.html")
    assert (found.photos, [one.key for one in found.skipped]) == (2, ["1.jpg"])
    page = Page((tmp_path / "sheet.html").read_text(encoding="utf-8"))
    assert "1.jpg: there is no such file" in page.text and "two" in page.text


def test_no_samples_are_refused_and_nothing_is_written(tmp_path: Path):
    path = put_jsonl(tmp_path, ["one"])
    with pytest.raises(InputError, match="samples is 0"):
        show("jsonl", path, tmp_path / "sheet.html", options=SheetOptions(samples=0))
    assert not (tmp_path / "sheet.html").exists()
