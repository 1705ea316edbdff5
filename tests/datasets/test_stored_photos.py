"""The photo behind every form of path."""

from pathlib import Path

from prefixcap.datasets.stored_photos import photo_source
from prefixcap.images import open_rgb
from tests.datasets.conftest import jpeg, put_photos, put_tar


def test_file_stays_a_path_even_where_it_is_missing(tmp_path: Path):
    put_photos(tmp_path, "a.jpg")
    assert photo_source(tmp_path / "a.jpg") == tmp_path / "a.jpg"
    assert photo_source(tmp_path / "none.jpg") == tmp_path / "none.jpg"
    assert photo_source(tmp_path / "none.tar/a.jpg") == tmp_path / "none.tar/a.jpg"


def test_photo_in_a_shard_opens_as_the_same_picture(tmp_path: Path):
    put_photos(tmp_path, "a.jpg")
    shard = put_tar(tmp_path / "0.tar", {"x/a.jpg": jpeg(0)})
    inside = open_rgb(photo_source(shard / "x/a.jpg"))
    assert inside.tobytes() == open_rgb(tmp_path / "a.jpg").tobytes()
