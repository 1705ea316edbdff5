"""The style of charts: colours that follow the page, files that are the same each time."""

import re

import pytest

from prefixcap.report.charts import INK, SERIES, VARIABLES, Chart, draw, look, shortened

pytest.importorskip("matplotlib")


def chart(name: str = "c") -> Chart:
    """Two lines with a legend."""

    def paint(axes) -> None:
        for place in (0, 1):
            axes.plot([0, 1], [place, 1], label=f"line {place}", **look(place))

    return draw(name, "Two lines.", paint)


def test_the_drawing_in_a_page_has_the_page_s_colours_and_its_own_ids():
    inline = chart("first").inline
    assert not [colour for colour in VARIABLES if colour in inline]
    assert all(f"var(--series-{place})" in inline for place in (0, 1))
    ids = re.findall(r' id="([^"]+)"', inline)
    assert ids
    assert all(name.startswith("first-") for name in ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', inline)) <= set(ids)
    assert not re.search(r"<svg [^>]*width=", inline)


def test_files_are_the_same_each_time_and_in_printable_colours():
    one, other = chart(), chart()
    assert one.svg == other.svg
    assert one.pdf == other.pdf
    assert INK in one.svg
    assert SERIES[1] in one.svg
    assert (one.pdf[:5], one.png[1:4]) == (b"%PDF-", b"PNG")


def test_series_differ_in_two_ways_and_more_of_them_in_their_dashes():
    looks = [look(place) for place in range(3 * len(SERIES))]
    assert len({(one["color"], str(one["linestyle"])) for one in looks}) == len(looks)
    assert len({one["marker"] for one in looks[: len(SERIES)]}) == len(SERIES)


def test_axes_keep_their_height_under_a_long_legend():
    heights = []
    for count in (1, 12):

        def paint(axes, count=count) -> None:
            for place in range(count):
                axes.plot([0, 1], label=f"a name that fills a row, {place}", **look(place))

        figure = draw("c", "Lines.", paint).figure
        heights.append(figure.axes[0].get_position().height * figure.get_figheight())
    assert heights[1] == pytest.approx(heights[0], abs=0.3)


def test_names_are_cut_in_the_middle_and_safe_in_file_names():
    assert shortened("a" * 20 + "b" * 30, 21) == "a" * 10 + "…" + "b" * 10
    assert chart("map-a b/c").name == "map-a-b-c"
