"""COCO captions: the annotation JSON of 2014 and 2017, as a file or as the dataset's folder.

Chen et al. 2015, "Microsoft COCO Captions": `annotations/captions_{train,val}{2014,2017}.json` with
`images` (id, file_name) and `annotations` (image_id, id, caption); photos in `train2014/` etc. The
test captions are not public: `image_info_test2014.json` lists the photos.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefixcap.datasets.captions_json import read_captions_json
from prefixcap.datasets.counts import Edition
from prefixcap.datasets.photos import dataset_folder, find_image_folder
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError

_SPLIT = re.compile(r"(?<![a-z])(train|val|dev|test|minival|valminusminival)(\d{4})?(?![a-z])")
_PHOTO_SPLIT = re.compile(r"^COCO_(train|val|test)2014_")
# Photos of 2017 are numbers only; where they are published says the split: .../val2017/NUMBER.jpg
_LINK_SPLIT = re.compile(r"/(train|val|test)20\d\d/[^/]*$")


def read(path: Path, split: str | None = None, images: Path | None = None) -> list[CaptionRecord]:
    """Records of an annotation file, or of one or all splits of a COCO folder; ids are COCO's.

    Args:
        path: `captions_val2014.json`, or the folder that holds it or its `annotations/`.
        split: "train", "val", or with the year where a folder has both: "val2017"; "test" is
            published without captions, and is not among all splits.
        images: folder of the photos; without it, searched beside the file and one level up.

    Raises:
        InputError: cut-off or foreign file, unknown or ambiguous split, ids without images, or no
            photos found.
    """
    if path.is_dir():
        files = _annotation_files(path, split)
        return [record for file in files for record in _read_file(file, images)]
    if split is not None and split not in _split_names(path):
        raise InputError(
            f'{path}: holds split "{split_of(path)}", but "{split}" was asked for. '
            "Give the annotation file of that split, or the COCO folder."
        )
    return _read_file(path, images)


def captions_by_image(path: Path) -> dict[int, tuple[str, ...]]:
    """Captions of every image id of one annotation file, for which no photos are needed.

    Raises:
        InputError: cut-off or foreign file, or captions of ids that the file does not list.
    """
    content = read_captions_json(Path(path), "coco")
    return {entry["id"]: content.captions(entry["id"]) for entry in content.images}


def split_of(path: Path) -> str:
    """Split that the name of an annotation file states, without the year; "all" where none."""
    found = _SPLIT.search(path.stem.lower())
    return found.group(1) if found else "all"


def edition(path: Path, split: str | None = None) -> Edition:
    """Which year's files these are, as their names say; arguments and errors as in `read`."""
    files = _annotation_files(path, split) if path.is_dir() else [path]
    years = {
        found.group(2) for found in (_SPLIT.search(file.stem.lower()) for file in files) if found
    }
    year = years.pop() if len(years) == 1 else None
    return Edition("coco", int(year) if year else None)


def _split_names(path: Path) -> set[str]:
    """What may be asked for to get this file: "val" and "val2014" for `captions_val2014.json`."""
    found = _SPLIT.search(path.stem.lower())
    return {found.group(1), found.group(0)} if found else {"all"}


def _annotation_files(root: Path, split: str | None) -> list[Path]:
    """The annotation files of a COCO folder, at most one per split."""
    folder = root / "annotations" if (root / "annotations").is_dir() else root
    is_test = split is not None and split.startswith("test")
    files = sorted(folder.glob("image_info_test*.json" if is_test else "captions_*.json"))
    if split is not None:
        chosen = [file for file in files if split in _split_names(file)]
    else:
        chosen = [file for file in files if split_of(file) != "all"]
    splits = [split_of(file) for file in chosen]
    if not chosen or len(set(splits)) < len(splits):
        problem = "several annotation files per split" if chosen else "no annotation file"
        names = ", ".join(file.name for file in files) or "none"
        raise InputError(
            f"{root}: {problem} for split {split or 'all'}; found {names}. "
            'Name one split with its year ("val2017") or give the annotation file itself.'
        )
    return chosen


def _read_file(path: Path, images: Path | None) -> list[CaptionRecord]:
    split = split_of(path)
    content = read_captions_json(path, "coco", captionless=split == "test")
    names = [entry["file_name"] for entry in content.images]
    _refuse_other_split(content.images, split, path)
    folder = find_image_folder(names, dataset_folder(path), images)
    return [
        CaptionRecord(
            str(entry["id"]), folder / entry["file_name"], content.captions(entry["id"]), split
        )
        for entry in content.images
    ]


def _refuse_other_split(images: Sequence[dict[str, Any]], split: str, path: Path) -> None:
    """Raise where the file's name says "train" and its photos are of val, or the reverse."""
    stated = {_stated_split(entry) for entry in images} - {None}
    if split in ("train", "val", "test") and stated and stated != {split}:
        raise InputError(
            f"{path}: named as split {split}, but its photos are of {', '.join(sorted(stated))}. "
            "Give the right annotation file, or name it after the split that it holds."
        )


def _stated_split(entry: dict[str, Any]) -> str | None:
    """Split that the name of a photo states, or else its link; None where neither does."""
    link = str(entry.get("coco_url", ""))
    found = _PHOTO_SPLIT.match(entry["file_name"]) or _LINK_SPLIT.search(link)
    return found.group(1) if found else None
