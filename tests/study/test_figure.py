"""Figures of a study as files."""

import json

import pytest
from PIL import Image

from prefixcap.study import figure
from prefixcap.study.figure import write_figures
from tests.study_content import content

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_one_figure_in_three_formats(tmp_path, kind):
    (tmp_path / "study.json").write_text(json.dumps(content(kind)))
    written = write_figures(tmp_path)
    assert [path.name for path in written] == ["figure.svg", "figure.pdf", "figure.png"]
    with Image.open(tmp_path / "figure.png") as image:
        assert image.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
        assert len(image.convert("RGB").getcolors(1 << 20)) > 3
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_several_figures_have_several_names(tmp_path, monkeypatch):
    (tmp_path / "study.json").write_text(json.dumps(content("bars")))
    one = figure.study_charts(figure.read_study(tmp_path))
    monkeypatch.setattr(figure, "study_charts", lambda study: one * 2)
    names = [path.name for path in write_figures(tmp_path)]
    assert names[3:] == ["figure-2.svg", "figure-2.pdf", "figure-2.png"] and len(set(names)) == 6
    assert all((tmp_path / name).is_file() for name in names)


def test_nothing_is_drawn_of_nothing(tmp_path):
    found = content() | {"rows": [content()["rows"][2]]}
    (tmp_path / "study.json").write_text(json.dumps(found))
    assert write_figures(tmp_path) == []
