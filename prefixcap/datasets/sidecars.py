"""Your own folder of photos with a `.txt` of the same name beside each, one caption a line."""

from collections.abc import Iterator, Set
from pathlib import Path

from prefixcap.datasets.annotations import is_document, read_text
from prefixcap.datasets.records import CaptionRecord, Remark, clean_caption, select_split
from prefixcap.errors import InputError
from prefixcap.photo_search import PhotoSet, files_below, find_photo_set

SPLIT_FOLDERS = ("train", "val", "dev", "test")


def read(path: Path, split: str | None = None, images: Path | None = None) -> list[CaptionRecord]:
    """Records of the photos below a folder that have a sidecar; ids are relative paths with "/".

    A first folder called train, val, dev or test is the split; everything else is "train". A photo
    without a `.txt`, or with an empty one, comes without captions, so that `data check` names it.

    Args:
        path: the folder of the sidecars.
        split: "train", or the name of a first folder.
        images: the folder of the photos where they lie apart, under the same names.

    Raises:
        InputError: no photos, no captions at all, or no such split.
    """
    if not path.is_dir():
        raise InputError(f"{path}: not a folder. Give the folder of photos and .txt files.")
    found = find_photo_set([str(images or path)])
    records = [
        CaptionRecord(photo.key, photo.path, _captions(path / sidecar), _split(Path(photo.key)))
        for photo, sidecar in zip(found.photos, _sidecars(found), strict=True)
    ]
    if not any(record.captions for record in records):
        first = found.photos[0].key
        raise InputError(
            f"{path}: {len(records)} photos, none with captions. Expected "
            f"{Path(first).with_suffix('.txt')} beside {first}, one caption a line."
        )
    return select_split(records, split, path)


def remarks(path: Path, split: str | None = None, images: Path | None = None) -> list[Remark]:
    """Texts that go with no photo; arguments as in `read`.

    Hidden files and README.txt, LICENSE.txt and the like are not meant to.
    """
    claimed = set(_sidecars(find_photo_set([str(images or path)])))
    lost = tuple(str(path / text) for text in _without_photo(path, claimed, split))
    what = "texts without a photo of their name"
    return [Remark(what, len(lost), lost, "Left out; bring their photos back")] if lost else []


def _sidecars(found: PhotoSet) -> list[Path]:
    """Relative path of each photo's sidecar.

    Not from the key, in which bytes that are no UTF-8 are escaped.
    """
    return [photo.path.relative_to(found.root).with_suffix(".txt") for photo in found.photos]


def _without_photo(path: Path, claimed: Set[Path], split: str | None) -> Iterator[Path]:
    """Relative paths of the texts in `path` that go with no photo, in the order of their names.

    `claimed` are those that do; both are found by one walk, so that a folder of several names has
    the same one in both.
    """
    for text in files_below(path, (".txt",)):
        relative = text.relative_to(path)
        if relative in claimed:
            continue
        if split not in (None, _split(relative)) or is_document(relative.name):
            continue
        if _captions(text):
            yield relative


def _captions(sidecar: Path) -> tuple[str, ...]:
    if not sidecar.is_file():
        return ()
    lines = read_text(sidecar).split("\n")
    return tuple(caption for line in lines if (caption := clean_caption(line)))


def _split(relative: Path) -> str:
    first = relative.parts[0].lower()
    return first if len(relative.parts) > 1 and first in SPLIT_FOLDERS else "train"
