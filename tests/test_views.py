"""Views of photos: what they cut, and that they equal inference on the whole."""

import numpy as np
from PIL import Image

from prefixcap.config import PreprocessConfig
from prefixcap.preprocess import pixels
from prefixcap.recipe import ViewConfig
from prefixcap.views import WHOLE, PhotoArray, View, draw_view

SQUASH = PreprocessConfig(resize="squash", crop_px=16, mean=(0.5,) * 3, std=(0.25,) * 3)


def write(folder, number=3, side=32):
    """Photos of noise, and a file that is none."""
    generator = np.random.default_rng(0)
    paths = []
    for index in range(number):
        levels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(levels).save(folder / f"{index}.png")
        paths.append(folder / f"{index}.png")
    return paths


def test_whole_view_equals_the_preprocessing_of_inference(tmp_path):
    paths = write(tmp_path)
    photos = PhotoArray(paths, 32)
    for row, path in enumerate(paths):
        expected = pixels(Image.open(path), SQUASH)
        np.testing.assert_allclose(photos.view(row, WHOLE, SQUASH), expected, atol=1e-6)


def test_mirrored_view_is_the_whole_one_read_from_the_right(tmp_path):
    photos = PhotoArray(write(tmp_path, 1), 32)
    mirrored = photos.view(0, View((0, 0, 1, 1), True, 1.0, 1.0), SQUASH)
    np.testing.assert_array_equal(mirrored, photos.view(0, WHOLE, SQUASH)[:, :, ::-1])


def test_box_cuts_its_part(tmp_path):
    path = tmp_path / "halves.png"
    levels = np.zeros((32, 32, 3), np.uint8)
    levels[:, 16:] = 255
    Image.fromarray(levels).save(path)
    photos = PhotoArray([path], 32)
    right = photos.view(0, View((0.6, 0.0, 1.0, 1.0), False, 1.0, 1.0), SQUASH)
    np.testing.assert_allclose(right, 2.0)  # (1 - 0.5) / 0.25


def test_drawn_views_keep_their_limits_and_differ():
    generator = np.random.default_rng(0)
    config = ViewConfig(min_area=0.4, max_aspect=1.5, mirror=True, light=0.1)
    views = [draw_view(config, generator) for _ in range(500)]
    boxes = np.array([view.box for view in views])
    sizes = boxes[:, 2:] - boxes[:, :2]
    assert (boxes >= 0).all() and (boxes <= 1 + 1e-9).all()
    assert sizes.prod(1).min() > 0.4 * 0.8  # a side is cut where the aspect asks for more than all
    assert 0.4 < np.mean([view.mirrored for view in views]) < 0.6
    assert len({view.box for view in views}) == 500


def test_default_view_is_the_whole_photo():
    view = draw_view(ViewConfig(), np.random.default_rng(0))
    assert view == WHOLE


def test_unreadable_photos_are_listed_and_the_others_stay(tmp_path):
    paths = write(tmp_path, 2)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 not a jpeg")
    photos = PhotoArray([paths[0], broken, paths[1]], 32)
    assert photos.readable.tolist() == [True, False, True]
    assert [skipped.key for skipped in photos.skipped] == [str(broken)]
