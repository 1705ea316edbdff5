"""Captions of a split: the same as the captioner's own, whatever cannot be read left out."""

from pathlib import Path

import pytest

from prefixcap.captioner import Captioner
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError
from prefixcap.evaluate import (
    constant_caption,
    evaluate_captioner,
    weights_of,
    without_references,
    write_captions,
)
from prefixcap.metrics import score
from tests.tiny_captioner import tiny_model, write_photos
from tests.tiny_split import records


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    """Tiny captioner."""
    return Captioner(tiny_model())


@pytest.fixture
def split(tmp_path: Path) -> list[CaptionRecord]:
    """Six photos, the third of which is none."""
    photos = sorted(write_photos(tmp_path / "photos", 6).rglob("*.png"))
    photos[2].write_bytes(b"no photo")
    captions = ("a dog runs on grass", "two men sit by water")
    return [CaptionRecord(f"{n}", path, captions, "dev") for n, path in enumerate(photos)]


def test_captions_are_the_captioner_s_and_progress_ends_at_the_last_photo(captioner, split):
    seen: list[int] = []
    captions, skipped = write_captions(captioner, split, None, seen.append)
    readable = [record for record in split if record.image_id != "2"]
    own = captioner.caption([record.path for record in readable])
    assert list(captions.values()) == [caption.text for caption in own]
    assert [one.key for one in skipped] == ["2"]
    assert seen[-1] == len(split)


def test_scores_are_those_of_the_captions_that_could_be_written(captioner, split):
    found = evaluate_captioner(captioner, split, None, ("cider",))
    references = {key: split[0].captions for key in found.captions}
    assert found.scores.corpus == score(found.captions, references, ("cider",)).corpus


def test_constant_caption_is_the_best_of_all_as_the_caption_of_every_image():
    references = {record.image_id: record.captions for record in records()}
    every = {text for texts in references.values() for text in texts}
    ciders = {
        text: score(dict.fromkeys(references, text), references, ("cider",)).corpus["CIDEr"]
        for text in every
    }
    best = max(ciders.values())
    assert ciders[constant_caption(records())] == best > sorted(ciders.values())[-2]


def test_images_without_references_are_refused_or_counted():
    bare = CaptionRecord("9", Path(), (), "dev")
    assert without_references(records(), allowed=False) == []
    assert without_references([*records(), bare], allowed=True) == ["9"]
    assert without_references([bare], allowed=False) == []  # a test split: nothing to score
    with pytest.raises(InputError, match=r"1 of 7 .* 9\. .*--allow-missing"):
        without_references([*records(), bare], allowed=False)


def test_a_run_stands_for_its_best_weights(tmp_path):
    assert weights_of("mini") == "mini"
    assert weights_of(str(tmp_path)) == str(tmp_path)
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(InputError, match="without weights"):
        weights_of(str(tmp_path))
    for name in ("model", "best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        assert weights_of(str(tmp_path)) == str(tmp_path / name)
