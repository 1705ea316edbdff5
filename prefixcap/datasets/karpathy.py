"""Karpathy's splits of COCO, Flickr8k and Flickr30k: `dataset_{coco,flickr8k,flickr30k}.json`.

Karpathy and Fei-Fei 2015: {"dataset", "images": [{"filename", "split", "sentences": [{"raw"}], and
for COCO "filepath", "cocoid"}]}. COCO's splits are train, restval, val and test; every paper since
trains on train and restval together (113,287 images), so that is what "train" gives here.
"""

from pathlib import Path
from typing import Any

from prefixcap.datasets.annotations import field, read_json, read_object
from prefixcap.datasets.captions_json import KINDS, READ_AS, recognise
from prefixcap.datasets.counts import Edition
from prefixcap.datasets.photos import dataset_folder, find_image_folder
from prefixcap.datasets.records import CaptionRecord, clean_caption
from prefixcap.errors import InputError

SPLITS = ("train", "restval", "val", "test")
_PUBLISHED_AS = {"coco": "coco-karpathy", "flickr8k": "flickr8k-karpathy", "flickr30k": "flickr30k"}


def read(
    path: Path,
    split: str | None = None,
    images: Path | None = None,
    dataset: str | None = None,
) -> list[CaptionRecord]:
    """Records of one of the three files; ids are COCO's (as text) or Flickr's file names.

    Args:
        path: the JSON, or a folder with exactly one `dataset_*.json`.
        split: "train" (with restval), "restval" alone, "val", "test"; None for all.
        images: folder of the photos, for COCO the one above `train2014/` and `val2014/`, or one
            that holds all; without it, searched beside the JSON.
        dataset: "coco", "flickr8k" or "flickr30k" where no other will do.

    Raises:
        InputError: cut-off or foreign file, no such split, or no photos found.
    """
    file = path if path.is_file() else _file_in(path, dataset)
    entries = _entries(file, dataset)
    wanted = {None: SPLITS, "train": ("train", "restval")}.get(split, (split,))
    found = [entry for entry in entries if entry["split"] in wanted]
    if not found:
        present = ", ".join(sorted({entry["split"] for entry in entries}))
        raise InputError(f'{file}: no split "{split}". Ask for one of those it has: {present}.')
    locations = _locate(found, file, images)
    return [
        CaptionRecord(_image_id(entry), location, _captions(entry, file), entry["split"])
        for entry, location in zip(found, locations, strict=True)
    ]


def edition(path: Path, split: str | None = None) -> Edition:
    """Which of the three files it is, as its "dataset" says; arguments and errors as in `read`."""
    file = path if path.is_file() else _file_in(path, None)
    found = read_object(file, ("images",), KINDS["karpathy"]).get("dataset")
    return Edition(_PUBLISHED_AS.get(str(found), "karpathy"))


def _file_in(folder: Path, dataset: str | None) -> Path:
    """The only `dataset_*.json` in a folder."""
    files = sorted(folder.glob(f"dataset_{dataset or '*'}.json"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise InputError(
            f"{folder}: expected one dataset_{dataset or '*'}.json, found {found}. "
            "Give the path of the file itself."
        )
    return files[0]


def _entries(file: Path, dataset: str | None) -> list[dict[str, Any]]:
    """The images of the file, checked."""
    value = read_json(file)
    kind = recognise(value)
    if kind != "karpathy":
        advice = f'Read it as "{kind}"' if kind in READ_AS else "Give a dataset_*.json of his"
        raise InputError(f"{file}: this is {KINDS[kind]}, expected {KINDS['karpathy']}. {advice}.")
    found = value.get("dataset")
    if dataset is not None and found != dataset:
        raise InputError(
            f"{file}: splits of {found}, expected those of {dataset}. Give dataset_{dataset}.json."
        )
    where = f"{file}: images"
    for entry in value["images"]:
        field(entry, "filename", str, where)
        field(entry, "sentences", list, where)
        if field(entry, "split", str, where) not in SPLITS:
            raise InputError(f"{where}: split {entry['split']!r} is none of {', '.join(SPLITS)}.")
    return value["images"]


def _image_id(entry: dict[str, Any]) -> str:
    return str(entry["cocoid"]) if "cocoid" in entry else entry["filename"]


def _captions(entry: dict[str, Any], file: Path) -> tuple[str, ...]:
    where = f"{file}: sentences of {entry['filename']}"
    return tuple(clean_caption(field(one, "raw", str, where)) for one in entry["sentences"])


def _locate(entries: list[dict[str, Any]], file: Path, images: Path | None) -> list[Path]:
    """Photo of each entry: under `filepath/` where the dataset has that, else in one folder."""
    flat = [entry["filename"] for entry in entries]
    nested = [
        f"{entry['filepath']}/{entry['filename']}" for entry in entries if "filepath" in entry
    ]
    root = dataset_folder(file)
    if len(nested) == len(flat):
        given = images is not None and not any((images / name).is_file() for name in nested)
        try:
            folder = None if given else find_image_folder(nested, root, images)
        except InputError:
            folder = None  # no train2014/ and val2014/ anywhere: all photos may be in one folder
        if folder is not None:
            return [folder / name for name in nested]
    folder = find_image_folder(flat, root, images)
    return [folder / name for name in flat]
