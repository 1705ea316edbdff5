"""Sidecars: what is put into them, and that it is put there once."""

from pathlib import Path

import pytest

from prefixcap import atomic
from prefixcap.errors import InputError
from prefixcap.images import Photo
from prefixcap.sidecars import SidecarOptions, Sidecars, check_sidecars


@pytest.fixture
def photos(tmp_path) -> list[Photo]:
    return [Photo(tmp_path / f"{name}.jpg", f"{name}.jpg") for name in "abc"]


def texts(photos: list[Photo]) -> list[str | None]:
    paths = [photo.path.with_suffix(".txt") for photo in photos]
    return [path.read_text("utf-8") if path.exists() else None for path in paths]


CAPTIONS = ("a dog", "a cat", "a cow")


@pytest.mark.parametrize(
    ("options", "present", "expected"),
    [
        ({}, "", "a dog\n"),
        ({"before": "photo of ", "after": ", 4k"}, "", "photo of a dog, 4k\n"),
        ({"existing": "overwrite"}, "old", "a dog\n"),
        ({"existing": "append"}, "old\n", "old a dog\n"),
        ({"existing": "append"}, "", "a dog\n"),
        ({"existing": "append", "before": ", "}, "old\n", "old, a dog\n"),
        ({"existing": "prepend"}, "old\n", "a dog old\n"),
        ({"existing": "prepend", "after": ", "}, "old", "a dog, old\n"),
        ({"existing": "prepend"}, ", old", "a dog, old\n"),
    ],
)
def test_texts_are_put_together_with_one_separator(options, present, expected):
    assert SidecarOptions(**options).text("a dog", present) == expected


@pytest.mark.parametrize("existing", ["append", "prepend", "overwrite", "skip"])
def test_written_twice_by_one_run_is_written_once(photos, tmp_path, existing):
    options = SidecarOptions(existing=existing)
    if existing != "skip":
        photos[0].path.with_suffix(".txt").write_text("old")
    captions = dict(zip(photos, CAPTIONS, strict=True))
    with Sidecars(options, tmp_path / "journal") as sidecars:
        assert sidecars.write(captions) == []
    first = texts(photos)
    with Sidecars(options, tmp_path / "journal") as sidecars:
        sidecars.write(captions)
    assert texts(photos) == first
    assert first[1:] == ["a cat\n", "a cow\n"]


@pytest.mark.parametrize("existing", ["append", "prepend"])
@pytest.mark.parametrize("survived", [0, 1, 2, 3])
def test_a_run_killed_between_two_sidecars_adds_each_caption_once(
    photos, tmp_path, monkeypatch, existing, survived
):
    for photo in photos:
        photo.path.with_suffix(".txt").write_text("old\n")
    captions = dict(zip(photos, CAPTIONS, strict=True))
    options, write, done = SidecarOptions(existing=existing), atomic.write_text, []

    def die_after_some(path: Path, text: str) -> None:
        if len(done) == survived:
            raise KeyboardInterrupt
        done.append(write(path, text))

    monkeypatch.setattr(atomic, "write_text", die_after_some)
    with Sidecars(options, tmp_path / "journal") as sidecars:
        if survived < 3:
            with pytest.raises(KeyboardInterrupt):
                sidecars.write(captions)
        else:
            sidecars.write(captions)
    monkeypatch.setattr(atomic, "write_text", write)
    with Sidecars(options, tmp_path / "journal") as sidecars:
        sidecars.write(captions)
    both = [("old", one) if existing == "append" else (one, "old") for one in CAPTIONS]
    assert texts(photos) == [f"{first} {second}\n" for first, second in both]


def test_a_sidecar_of_somebody_else_is_told_from_our_own(photos, tmp_path):
    photos[0].path.with_suffix(".txt").write_text("mine")
    with Sidecars(SidecarOptions(), tmp_path / "journal") as sidecars:
        sidecars.write({photos[1]: "a cat"})
        assert [sidecars.is_foreign(photo) for photo in photos] == [True, False, False]
        sidecars.finish()
    assert not (tmp_path / "journal").exists()


def test_text_that_is_no_utf8_is_kept_and_reported(photos, tmp_path):
    sidecar = photos[0].path.with_suffix(".txt")
    sidecar.write_bytes(b"caf\xe9")
    captions = dict(zip(photos, CAPTIONS, strict=True))
    with Sidecars(SidecarOptions(existing="append"), tmp_path / "journal") as sidecars:
        (skipped,) = sidecars.write(captions)
    assert (skipped.key, skipped.reason) == ("a.jpg", "its sidecar a.txt is no text in UTF-8")
    assert sidecar.read_bytes() == b"caf\xe9"
    assert texts(photos[1:]) == ["a cat\n", "a cow\n"]


def test_a_byte_order_mark_does_not_end_up_in_the_middle(photos, tmp_path):
    photos[0].path.with_suffix(".txt").write_bytes(b"\xef\xbb\xbfold")
    with Sidecars(SidecarOptions(existing="prepend"), tmp_path / "journal") as sidecars:
        sidecars.write({photos[0]: "a dog"})
    assert texts(photos)[0] == "a dog old\n"


@pytest.mark.parametrize("suffix", ["", ".", "txt", "./x", ".JPG", ". "])
def test_a_suffix_that_is_none_or_a_pictures_is_refused(suffix):
    with pytest.raises(InputError, match="sidecar suffix"):
        SidecarOptions(suffix=suffix)


def test_photos_that_would_share_a_sidecar_are_refused(tmp_path):
    shared = [Photo(tmp_path / name, name) for name in ("a.jpg", "b.jpg", "a.png")]
    with pytest.raises(InputError, match=r"a\.jpg and 1 more would share"):
        check_sidecars(shared, SidecarOptions())
    check_sidecars(shared[:2], SidecarOptions())


def test_a_folder_that_cannot_be_written_is_found_before_the_run(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"no permission.*--out"):
        check_sidecars(photos, SidecarOptions())
