"""The demo page: complete in one file, true to the captioner, safe against any text."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from prefixcap import demo
from prefixcap.captioner import Caption, Captioner
from prefixcap.cli import main as cli
from prefixcap.config import DecodeOptions
from prefixcap.demo import Entry, caption_photos, render, sample_photos, write_page
from prefixcap.errors import InputError, MissingExtraError
from prefixcap.explain.prefix import NearestToken
from tests.tiny_captioner import tiny_model

SLOTS = 2
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Elements of a page: (tag, attributes, text inside), and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[int] = []
        self.elements: list[tuple[str, dict, list[str]]] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"not closed: {[self.elements[i][0] for i in self.open]}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data):
        for index in self.open:
            self.elements[index][2].append(data)

    def texts(self, tag: str) -> list[str]:
        """Text of each element `tag`, in order."""
        return ["".join(text).strip() for name, _, text in self.elements if name == tag]

    def attributes(self, tag: str, name: str) -> list[str]:
        """Attribute `name` of each element `tag`, in order."""
        return [attributes[name] for found, attributes, _ in self.elements if found == tag]


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    """Untrained captioner of a few thousand weights."""
    return Captioner(tiny_model(), "tiny")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Two photos, one of them larger than the page shows."""
    paths = [tmp_path / "wide.png", tmp_path / "small.jpg"]
    for path, size in zip(paths, [(2000, 500), (60, 80)], strict=True):
        Image.effect_noise(size, 80).convert("RGB").save(path)
    return paths


def an_entry(text: str = "a dog") -> Entry:
    """An entry of one photo with two captions and two slots."""
    captions = [Caption(text, -0.5, [1], [-0.5]), Caption(f"other {text}", -0.75, [2], [-0.75])]
    slots = [
        [NearestToken(text, 5, 0.42), NearestToken("cat", 6, 0.4)],
        [NearestToken("x", 7, -0.1)],
    ]
    return Entry("photo.jpg", Image.new("RGB", (20, 10)), captions, slots)


def test_samples_are_photographs_inside_the_installed_package():
    pytest.importorskip("skimage", reason="needs the extra demo")
    photos = sample_photos()
    assert [photo.name for photo in photos] == list(demo.SAMPLES)
    for photo in photos:
        with Image.open(photo) as image:
            assert min(image.size) >= 300


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "prefixcap\[demo\]"'):
        sample_photos()


def test_a_package_without_the_photographs_is_said(monkeypatch):
    monkeypatch.setattr(demo, "SAMPLES", ("never-taken.png",))
    pytest.importorskip("skimage", reason="needs the extra demo")
    with pytest.raises(InputError, match=r"never-taken\.png"):
        sample_photos()


def test_entries_hold_the_captioners_own_beam_and_every_slot(captioner, photos):
    entries = caption_photos(captioner, photos)
    options = DecodeOptions(beam_size=5, captions_per_image=5, max_tokens=8)
    expected = captioner.captions(photos, options)
    assert [entry.name for entry in entries] == ["wide.png", "small.jpg"]
    for entry, captions in zip(entries, expected, strict=True):
        assert [item.text for item in entry.captions] == [item.text for item in captions]
        assert len(entry.slots) == SLOTS


def test_page_shows_photo_caption_alternatives_and_words(captioner, photos, tmp_path):
    entries = caption_photos(captioner, photos)
    page = Page(write_page(entries, "tiny", tmp_path / "out").read_text("utf-8"))
    assert page.texts("figcaption") == ["wide.png", "small.jpg"]
    assert page.texts("h2") == [entry.captions[0].text for entry in entries]
    assert page.attributes("img", "alt") == page.texts("h2")
    for entry, shown in zip(entries, page.texts("article"), strict=True):
        positions = [shown.index(caption.text) for caption in entry.captions]
        assert positions == sorted(positions)
    assert len(page.texts("i")) == 2 * SLOTS


def test_page_is_complete_in_one_file(captioner, photos, tmp_path):
    entries = caption_photos(captioner, photos)
    written = write_page(entries, "tiny", tmp_path / "out")
    html = written.read_text("utf-8")
    assert [path.name for path in written.parent.iterdir()] == ["index.html"]
    assert "http" not in html and "url(" not in html and "@import" not in html
    assert not {"script", "link", "iframe"} & {tag for tag, _, _ in Page(html).elements}


def test_photos_in_the_page_keep_their_shape_and_are_not_larger_than_shown(captioner, photos):
    page = Page(render(caption_photos(captioner, photos), "tiny"))
    sizes = []
    for source in page.attributes("img", "src"):
        kind, _, data = source.partition(";base64,")
        assert kind == "data:image/jpeg"
        sizes.append(Image.open(io.BytesIO(base64.b64decode(data))).size)
    assert sizes == [(demo.SHOWN_PX, demo.SHOWN_PX // 4), (60, 80)]


def test_any_text_stays_text():
    nasty = """<script>alert("1")</script> & 'quoted' ${title} $title"""
    page = Page(render([an_entry(nasty)], model_name=nasty))
    assert "script" not in {tag for tag, _, _ in page.elements}
    assert page.texts("h2") == [nasty]
    assert page.attributes("img", "alt") == [nasty]
    assert nasty in page.texts("title")[0]


def test_scores_and_similarities_are_shown(tmp_path):
    page = Page(render([an_entry()], "tiny"))
    assert page.texts("span") == ["-0.75"]
    assert "-0.50" in page.texts("h3")[0]
    assert page.texts("i") == ["0.42", "-0.10"]
    titles = [attributes["title"] for tag, attributes, _ in page.elements if "title" in attributes]
    assert titles == ["a dog 0.42, cat 0.40", "x -0.10"]


def test_command_captions_the_samples_and_names_the_page(captioner, tmp_path, capsys):
    pytest.importorskip("skimage", reason="needs the extra demo")
    captioner.model.save_pretrained(tmp_path / "model")
    out = tmp_path / "deep" / "out"
    assert cli.main(["demo", "--model", str(tmp_path / "model"), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == list(demo.SAMPLES)
    assert lines[-1] == f"Open {out / 'index.html'} in a browser."
    assert len(Page((out / "index.html").read_text("utf-8")).texts("h2")) == len(demo.SAMPLES)


def test_an_output_that_is_a_file_is_one_line(captioner, tmp_path, capsys):
    pytest.importorskip("skimage", reason="needs the extra demo")
    captioner.model.save_pretrained(tmp_path / "model")
    (tmp_path / "taken").write_text("a file")
    words = ["demo", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "taken")]
    assert cli.main(words) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "taken" in error
    assert (tmp_path / "taken").read_text() == "a file"
