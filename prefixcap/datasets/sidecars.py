"""Your own folder of photos with a `.txt` of the same name beside each, one caption a line."""

from pathlib import Path

from prefixcap.datasets.annotations import read_text
from prefixcap.datasets.records import CaptionRecord, clean_caption, select_split
from prefixcap.errors import InputError
from prefixcap.photo_search import find_photos

SPLIT_FOLDERS = ("train", "val", "dev", "test")


def read(path: Path, split: str | None = None, images: Path | None = None) -> list[CaptionRecord]:
    """Records of the photos below a folder that have a sidecar; ids are relative paths with "/".

    A first folder called train, val, dev or test is the split; everything else is "train". A
    `.txt` without a photo is no sidecar. A photo without a `.txt`, or with an empty one, comes
    without captions, so that `data check` names it.

    Args:
        path: the folder of the sidecars.
        split: "train", or the name of a first folder.
        images: the folder of the photos where they lie apart, under the same names.

    Raises:
        InputError: no photos, no captions at all, or no such split.
    """
    if not path.is_dir():
        raise InputError(f"{path}: not a folder. Give the folder of photos and .txt files.")
    root = images or path
    photos = find_photos([str(root)])
    records = []
    for photo in photos:
        relative = Path(photo.key)
        captions = _captions(path / relative.with_suffix(".txt"))
        records.append(CaptionRecord(photo.key, photo.path, captions, _split(relative)))
    if not any(record.captions for record in records):
        raise InputError(
            f"{path}: {len(photos)} photos, none with captions. Expected "
            f"{Path(photos[0].key).with_suffix('.txt')} beside {photos[0].key}, one caption a line."
        )
    return select_split(records, split, path)


def _captions(sidecar: Path) -> tuple[str, ...]:
    if not sidecar.is_file():
        return ()
    lines = read_text(sidecar).split("\n")
    return tuple(caption for line in lines if (caption := clean_caption(line)))


def _split(relative: Path) -> str:
    first = relative.parts[0].lower()
    return first if len(relative.parts) > 1 and first in SPLIT_FOLDERS else "train"
