"""Heat maps: coloured where weights are, dark where the encoder sees nothing."""

import numpy as np
import pytest
from PIL import Image

from prefixcap.config import PreprocessConfig
from prefixcap.explain.heat_maps import grid_side, heat_map, seen_box
from prefixcap.preprocess import resized

SQUASHED = PreprocessConfig(crop_px=32, resize_px=32, resize="squash")


def test_the_box_is_what_preprocessing_keeps():
    """A photo that is white in the box and black around it: the encoder sees white alone."""
    cut = PreprocessConfig(crop_px=32, resize_px=40)
    for size in [(300, 200), (200, 400), (240, 240)]:
        box = seen_box(size, cut)
        photo = Image.new("RGB", size)
        photo.paste((255, 255, 255), box)
        levels = resized(photo, cut)
        assert levels[2:-2, 2:-2].min() > 250
        inner = (box[0] + 12, box[1] + 12, box[2] - 12, box[3] - 12)
        smaller = Image.new("RGB", size)
        smaller.paste((255, 255, 255), inner)
        assert resized(smaller, cut)[0].max() < 5 and resized(smaller, cut)[:, 0].max() < 5
    assert seen_box((300, 200), SQUASHED) == (0, 0, 300, 200)


def test_the_highest_weight_is_orange_and_none_is_grey():
    photo = Image.new("RGB", (80, 40), (60, 120, 180))
    drawn = np.asarray(heat_map(photo, [0, 0, 0, 0.9], (0, 0, 80, 40))).astype(int)
    red, blue = drawn[..., 0], drawn[..., 2]
    assert red[38, 78] - blue[38, 78] > 150  # the last place is below on the right
    assert abs(red[2, 2] - blue[2, 2]) < 3


def test_outside_of_the_box_it_is_dark_grey():
    photo = Image.new("RGB", (90, 30), (200, 200, 200))
    drawn = np.asarray(heat_map(photo, [0.25] * 4, (30, 0, 60, 30))).astype(int)
    assert drawn.shape == (30, 90, 3)
    assert drawn[:, :29].max() < 100 and drawn[:, 61:].max() < 100
    assert drawn[:, 31:59, 0].min() > 200


@pytest.mark.parametrize(("count", "side"), [(49, 7), (1, 1), (50, None)])
def test_only_square_grids_are_drawn(count, side):
    assert grid_side(count) == side
