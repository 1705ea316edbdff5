"""`check`: each fault is found in data that has it, and sound data is left in peace."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from prefixcap.dataset_check import DatasetCheck, check
from prefixcap.datasets import read
from prefixcap.datasets.oddities import TOO_LONG
from tests.datasets.conftest import jpeg, put_json, put_photos, put_tar
from tests.datasets.downloads import put_output, put_tsv

Row = tuple[str, str, str]


def put_csv(folder: Path, rows: Sequence[Row]) -> Path:
    """A table of (photo, split, caption), and a photo for each new name that is not there."""
    lines = ["image,split,caption", *(f'{name},{split},"{text}"' for name, split, text in rows)]
    path = folder / "mine.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for seed, name in enumerate(dict.fromkeys(row[0] for row in rows)):
        if not (folder / name).exists():
            put_photos(folder, name, first_seed=seed)
    return path


SOUND = [
    ("a.jpg", "train", "A dog runs."),
    ("a.jpg", "train", "A brown dog."),
    ("b.jpg", "train", "Two cats."),
    ("c.jpg", "val", "The sea."),
]


def wrong(found: DatasetCheck) -> list[str]:
    return [finding.what for finding in found.findings if finding.is_wrong]


def notes(found: DatasetCheck) -> list[str]:
    return [finding.what for finding in found.findings if not finding.is_wrong]


def test_sound_data_has_no_findings(tmp_path: Path):
    found = check("csv", put_csv(tmp_path, SOUND))
    assert (found.findings, found.is_wrong, found.photos_opened) == ((), False, 3)
    assert [(one.split, one.images, one.captions) for one in found.counts] == [
        ("train", 2, 3),
        ("val", 1, 1),
    ]
    assert found.lines()[-1] == "csv: 3 photos opened; fit to train on."


@pytest.mark.parametrize(
    ("row", "what", "example"),
    [
        (("b.jpg", "train", ""), "empty captions", "b.jpg (train)"),
        (("b.jpg", "train", "."), "empty captions", "b.jpg (train): '.'"),
        (("b.jpg", "train", "\u72ac" * 1_000), f"captions of {TOO_LONG}", "\\u72ac"),
        (
            ("b.jpg", "train", "word " * 999),
            f"captions of {TOO_LONG}",
            "b.jpg (train): 'word",
        ),
        (
            ("b.jpg", "train", "caf\u00c3\u00a9"),
            "captions with UTF-8 read as Latin-1",
            "caf\\xc3\\xa9",
        ),
        (("b.jpg", "train", "a\u2028b"), "captions with a line end such as U+2028", "a\\u2028b"),
        (("a.jpg", "val", "A dog."), "ids in more than one split", "a.jpg (train, val)"),
    ],
)
def test_wrong_caption_or_id_is_found_and_quoted(tmp_path: Path, row: Row, what: str, example: str):
    found = check("csv", put_csv(tmp_path, [*SOUND, row]), open_photos=False)
    assert wrong(found) == [what]
    [finding] = [one for one in found.findings if one.is_wrong]
    assert finding.count == 1 and example in finding.examples[0]
    assert any(line.startswith(f"WRONG: {what}: 1. ") for line in found.lines())


def test_few_odd_encodings_among_many_are_only_noted(tmp_path: Path):
    rows = [("a.jpg", "train", f"caption {n}") for n in range(1_000)]
    found = check(
        "csv", put_csv(tmp_path, [*rows, ("a.jpg", "train", "a\ufffd")]), open_photos=False
    )
    assert (wrong(found), notes(found)) == ([], ["captions with a replacement character (U+FFFD)"])


def test_caption_twice_at_one_image_is_noted(tmp_path: Path):
    found = check("csv", put_csv(tmp_path, [*SOUND, SOUND[0]]))
    assert (wrong(found), notes(found)) == ([], ["captions twice at one image"])


def test_missing_and_unreadable_photos_are_told_apart(tmp_path: Path):
    path = put_csv(tmp_path, SOUND)
    (tmp_path / "b.jpg").unlink()
    (tmp_path / "c.jpg").write_bytes(jpeg(5)[:300])
    found = check("csv", path)
    missing, unreadable = found.findings
    assert (missing.what, missing.examples) == ("photos missing", (str(tmp_path / "b.jpg"),))
    assert unreadable.what == "photos unreadable"
    assert unreadable.examples[0].startswith(f"{tmp_path / 'c.jpg'}: ")
    assert (found.is_wrong, found.photos_opened) == (True, 1)


def test_copied_file_in_another_split_is_wrong_and_in_the_same_one_noted(tmp_path: Path):
    put_photos(tmp_path, "a.jpg")
    shutil.copy(tmp_path / "a.jpg", tmp_path / "b.jpg")
    found = check("csv", put_csv(tmp_path, SOUND))
    assert notes(found) == ["photos with the same bytes under several ids of one split"]
    shutil.copy(tmp_path / "a.jpg", tmp_path / "c.jpg")
    found = check("csv", tmp_path / "mine.csv")
    assert wrong(found) == ["photos with the same bytes in more than one split"]
    assert found.findings[0].examples == ("a.jpg (train) and b.jpg (train) and c.jpg (val)",)


def test_recompressed_photo_in_another_split_is_noted(tmp_path: Path):
    path = put_csv(tmp_path, SOUND)
    Image.open(tmp_path / "a.jpg").save(tmp_path / "c.jpg", quality=60)
    found = check("csv", path)
    assert (wrong(found), notes(found)) == ([], ["pairs of nearly the same picture in two splits"])
    assert found.findings[0].examples == ("a.jpg (train) and c.jpg (val)",)


def test_restval_and_train_are_one_training_set(tmp_path: Path):
    rows = [("a.jpg", "train", "one"), ("b.jpg", "restval", "two")]
    put_photos(tmp_path, "a.jpg")
    shutil.copy(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert not check("csv", put_csv(tmp_path, rows)).is_wrong


def test_images_without_captions_are_wrong_except_in_a_test_split(tmp_path: Path):
    put_photos(tmp_path, "a.jpg", "test/b.jpg")
    (tmp_path / "a.txt").write_text("A dog")
    assert not check("folder", tmp_path).is_wrong
    put_photos(tmp_path, "val/c.jpg", first_seed=9)
    assert wrong(check("folder", tmp_path)) == ["images without captions"]


def test_same_id_twice_in_a_split_is_wrong(tmp_path: Path):
    for name in ("0.tar", "1.tar"):
        put_tar(tmp_path / name, {"k.jpg": jpeg(int(name[0])), "k.txt": b"a cat"})
    assert wrong(check("webdataset", tmp_path)) == ["ids twice in one split"]


def test_more_than_published_is_wrong_and_less_is_a_subset(nocaps_check):
    assert wrong(nocaps_check(4_501)) == ["splits larger than published"]
    assert notes(nocaps_check(4_499)) == ["splits smaller than published"]


@pytest.fixture
def nocaps_check(tmp_path: Path):
    """Checks nocaps validation data, without its photos, of as many images as asked for."""

    def checked(count: int) -> DatasetCheck:
        ids = range(count)
        images = [{"id": n, "file_name": f"{n}.jpg", "open_images_id": str(n)} for n in ids]
        captions = [{"image_id": n, "id": n, "caption": f"caption {n}"} for n in ids]
        content = {"images": images, "annotations": captions}
        path = put_json(tmp_path / "nocaps_val_4500_captions.json", content)
        return check("nocaps", path, images=tmp_path, open_photos=False)

    return checked


def test_progress_ends_with_every_photo(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    check("csv", put_csv(tmp_path, SOUND), on_progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (3, 3)


def test_real_flickr8k_is_fit_to_train_on(data_dir: Path):
    found = check("flickr8k", data_dir / "flickr8k", open_photos=False)
    assert (found.is_wrong, notes(found)) == (False, ["captions twice at one image"])
    found = check("flickr8k", data_dir / "flickr8k", "dev")
    assert (found.findings, found.photos_opened) == ((), 1_000)


def test_real_coco_dev_photos_are_found_in_val2017(data_dir: Path):
    """Captions of val2017 must not be trained on where the dev photos are scored."""
    found = check("coco", data_dir / "coco", open_photos=False)
    assert wrong(found) == ["ids in more than one split"]
    by_split = {
        split: {r.image_id for r in read("coco", data_dir / "coco", split)}
        for split in ("dev", "val")
    }
    [shared] = [one.count for one in found.findings if one.is_wrong]
    assert shared == len(by_split["dev"] & by_split["val"]) > 0


def test_dataset_without_any_image_is_wrong(tmp_path: Path):
    found = check("webdataset", put_tar(tmp_path / "0.tar", {"x.cls": b"x"}))
    assert wrong(found) == ["images to train on"]
    assert found.lines()[-1].endswith("do not train on it as it is.")


def test_texts_without_their_photos_are_named(tmp_path: Path):
    put_photos(tmp_path, "a.jpg")
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("A dog")
    found = check("folder", tmp_path)
    assert wrong(found) == []
    assert notes(found) == ["texts without a photo of their name"]
    assert found.findings[0].examples == (str(tmp_path / "b.txt"), str(tmp_path / "c.txt"))


def test_pipe_is_an_unreadable_photo_and_not_waited_for(tmp_path: Path):
    path = put_csv(tmp_path, SOUND)
    (tmp_path / "b.jpg").unlink()
    os.mkfifo(tmp_path / "b.jpg")
    [finding] = check("csv", path).findings
    assert finding.what == "photos unreadable"
    assert finding.examples == (
        f"{tmp_path / 'b.jpg'}: is a device or pipe, expected a picture file",
    )


def test_every_example_is_named_where_asked(tmp_path: Path):
    rows = [(f"{n}.jpg", "train", "") for n in range(8)]
    found = check("csv", put_csv(tmp_path, rows), open_photos=False)
    assert sum(line.startswith("    ") for line in found.lines(names_all=True)) == 8
    few = [line for line in found.lines() if line.startswith("    ")]
    assert (len(few), few[-1]) == (6, "    and 3 more: see --all")


def test_remarks_of_a_dataset_are_notes(tmp_path: Path):
    put_output(tmp_path / "photos", table=False)
    found = check("conceptual", put_tsv(tmp_path / "Train_GCC-training.tsv"))
    assert "links of the TSV without a photo" in notes(found)
    assert any(
        "links of the TSV without a photo: 2. 3 of 5 links" in line for line in found.lines()
    )
