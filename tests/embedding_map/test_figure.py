"""Figures of maps: every point by its kind and topic, photos in cells that do not overlap."""

import numpy as np
import pytest

from prefixcap.embedding_map.figure import Point, photo_chart, photo_places, point_charts, points_of

pytest.importorskip("matplotlib")


def content(**changes):
    """Four images of two topics or none."""
    points = [
        {"kind": "image", "x": number, "y": -number, "topic": topic}
        for number, topic in enumerate(["dog", "dog", "man", ""])
    ]
    return {"points": points, "method": "t-SNE", "topics": ["dog", "man"], **changes}


def test_each_topic_has_its_colour_and_what_has_none_is_grey():
    [chart] = point_charts("run", content())
    lines = chart.figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["other images", "dog", "man"]
    assert [len(line.get_xdata()) for line in lines] == [1, 2, 1]
    assert len({line.get_color() for line in lines}) == 3


def test_spaces_apart_have_charts_apart_with_their_own_captions():
    points = [*content()["points"], {"kind": "caption", "x": 1, "y": 1}]
    captions = {"caption": "Captions only."}
    charts = point_charts("run", content(points=points, joint=False, captions=captions))
    assert [chart.name for chart in charts] == ["map-run", "map-run-captions"]
    assert charts[1].caption == "Captions only." and "4 images" in charts[0].caption
    assert len(point_charts("run", content(points=points, joint=True))) == 1


def test_an_unknown_kind_is_no_point():
    with pytest.raises(KeyError):
        points_of({"points": [{"kind": "dog", "x": 0, "y": 0}]})


def test_a_cell_has_the_photo_nearest_to_its_middle():
    points = [Point("image", x, y) for x, y in [(0, 0), (4, 4), (0.9, 1.1), (1.1, 0.8), (3, 0)]]
    places = photo_places(points, cells=2)
    assert places == {2: (0, 0), 1: (1, 1), 4: (1, 0)}
    assert photo_places(points[:1]) == {0: (0, 0)}


def test_photos_stand_in_their_cells():
    photo = np.full((8, 8, 3), 200, np.uint8)
    chart = photo_chart("map", "t-SNE", {(2, 3): photo, (0, 0): photo}, 50)
    extents = [image.get_extent() for image in chart.figure.axes[0].images]
    assert [tuple(map(int, extent)) for extent in extents] == [(2, 2, 3, 3), (0, 0, 0, 0)]
    assert chart.caption.startswith("2 of the 50 images")
