"""The page and its files: whole by itself, escaped, replaced as a whole."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from prefixcap.report.content import ReportOptions
from prefixcap.report.page import WrittenReport, write_report
from prefixcap.report.prefix import MAP_FILE, WORDS_FILE
from tests.source_tree import REPOSITORY
from tests.tiny_report import captions_of, photos, write_run, write_study

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    """A right run, one whose captions are hostile, and a study."""
    folder = tmp_path_factory.mktemp("report")
    data = photos(folder)
    odd = "a <script>alert(1)</script> & SURROGATE photo"
    runs = [
        write_run(folder / name, data, captions_of(data, text))
        for name, text in (("right", None), ("odd", odd))
    ]
    (runs[1] / "log.jsonl").unlink()
    slots = [[{"text": "<motor>", "similarity": 0.61}]]
    words = {
        "images": [{"image_id": "1", "caption": "a <bike>", "slots": slots}],
        "shared": 0.25,
        "numbers": {"images": 200, "readability": {"references": 0.314}},
    }
    (runs[0] / WORDS_FILE).write_text(json.dumps(words))
    points = [{"kind": kind, "x": x, "y": x} for x, kind in enumerate(["image", "caption"])]
    (runs[0] / MAP_FILE).write_text(json.dumps({"points": points, "joint": False}))
    scores = runs[1] / "scores-dev.json"
    scores.write_text(scores.read_text().replace("SURROGATE", "\\udcff"))
    return [*runs, write_study(folder / "prefix")]


@pytest.fixture(scope="module")
def written(folders, tmp_path_factory) -> WrittenReport:
    return write_report(folders, tmp_path_factory.mktemp("out"), ReportOptions(photos=4))


@pytest.fixture(scope="module")
def page(written) -> str:
    return written.page.read_text(encoding="utf-8")


def test_the_page_fetches_nothing(page):
    loaded = re.findall(r'(?:src|data|action)="([^"]+)"', page)
    assert loaded
    assert all(address.startswith("data:image/jpeg;base64,") for address in loaded)
    assert not re.search(r"<(?:link|script|iframe)|@import|url\((?!#)", page)


def test_links_lead_to_places_in_the_page_or_to_its_files(page, written):
    links = set(re.findall(r' href="([^"]+)"', re.sub(r"<svg.*?</svg>", "", page, flags=re.S)))
    anchors = {link for link in links if link.startswith("#")}
    assert {anchor[1:] for anchor in anchors} <= set(re.findall(r'\bid="([^"]+)"', page))
    assert links - anchors <= set(written.files)
    assert all((written.page.parent / name).stat().st_size for name in written.files)
    endings = {name.rpartition(".")[2] for name in written.files}
    assert endings == {"svg", "pdf", "md", "csv", "tex"}


def test_captions_are_text_whatever_they_hold(page):
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; \\udcff photo" in page
    assert "<script>" not in page


def test_prefix_words_their_numbers_and_maps_have_sections(page, written):
    assert "&lt;motor&gt;<i>0.61</i>" in page and "a &lt;bike&gt;" in page
    assert "25 % of the slots" in page and ">31.4<" in page
    names = {"figures/map-right.svg", "figures/map-right-captions.pdf", "tables/prefix-words.csv"}
    assert names <= set(written.files)


def test_drawings_are_whole_and_no_id_is_there_twice(page):
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(drawings) >= 5
    for drawing in drawings:
        ET.fromstring(drawing)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_files_of_an_earlier_report_go_and_those_of_others_stay(folders, tmp_path):
    before = write_report(folders[2:], tmp_path, ReportOptions())
    mine = tmp_path / "tables" / "mine.csv"
    mine.write_text("kept")
    options = ReportOptions(photos=0, extremes=0)
    after = write_report([write_study(tmp_path / "other")], tmp_path, options)
    gone = set(before.files) - set(after.files)
    assert gone == set(before.files)
    assert not any((tmp_path / name).exists() for name in gone)
    assert mine.read_text() == "kept"
    assert json.loads((tmp_path / "files.json").read_text()) == list(after.files)


def test_a_report_imports_no_torch(folders, tmp_path):
    """The whole command, in a Python of its own."""
    program = (
        "import sys; from prefixcap.cli.main import main; code = main(sys.argv[1:]); "
        "print(code, sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    words = ["report", str(folders[1]), "--out", str(tmp_path)]
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout.splitlines()[-1:] == ["0 []"], done.stderr
