"""Flickr8k and Flickr30k: the token file, the lists of each split, and the photos beside them.

Flickr8k: Hodosh, Young, Hockenmaier 2013; `Flickr8k.token.txt` (`NAME.jpg#N<tab>caption`) with
`Flickr_8k.{train,dev,test}Images.txt`. Flickr30k: Young et al. 2014; `results_20130124.token`, the
same lines, no official split.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefixcap.datasets.annotations import read_text
from prefixcap.datasets.photos import dataset_folder, find_image_folder
from prefixcap.datasets.records import CaptionRecord, clean_caption, select_split
from prefixcap.errors import InputError

UNLISTED = "unlisted"  # split of photos that are in none of the lists: 91 of Flickr8k's
# A line of `Flickr8k.token.txt` names this; no such photo was ever published.
NO_PHOTO = "2258277193_586949ec62.jpg.1"
_LINE = re.compile(r"^(?P<name>[^#\t]+)#(?P<number>\d+)\t(?P<caption>.*)$")


@dataclass(frozen=True)
class _Layout:
    """Names of one dataset's files."""

    tokens: tuple[str, ...]
    lists: tuple[tuple[str, str], ...]  # split, file name


_FLICKR8K = _Layout(
    ("Flickr8k.token.txt",),
    tuple((split, f"Flickr_8k.{split}Images.txt") for split in ("train", "dev", "test")),
)
_FLICKR30K = _Layout(
    ("results_20130124.token", "results.token", "flickr30k.token.txt"),
    tuple((split, f"{split}.txt") for split in ("train", "val", "test")),
)


def read_flickr8k(
    path: Path, split: str | None = None, images: Path | None = None
) -> list[CaptionRecord]:
    """Records of Flickr8k, five captions each; ids are file names.

    Args:
        path: folder with the token file (also one called `Flickr8k_text`), or the token file.
        split: "train", "dev", "test", "unlisted"; None for all photos of the token file.
        images: folder of the photos; without it, searched beside the token file.

    Raises:
        InputError: file missing or of another format, no such split, or no photos found.
    """
    return _read(Path(path), _FLICKR8K, split, images)


def read_flickr30k(
    path: Path, split: str | None = None, images: Path | None = None
) -> list[CaptionRecord]:
    """Records of Flickr30k's token file; splits only where `train.txt` etc. lie beside it.

    Arguments and errors as in `read_flickr8k`; splits are "train", "val", "test", "unlisted".
    """
    return _read(Path(path), _FLICKR30K, split, images)


def _read(
    path: Path, layout: _Layout, split: str | None, images: Path | None
) -> list[CaptionRecord]:
    tokens = path if path.is_file() else _find_token_file(path, layout)
    captions = _read_tokens(tokens)
    splits = _read_lists(tokens.parent, layout, captions.keys() - {NO_PHOTO}, split)
    root = path if path.is_dir() and path != tokens.parent else dataset_folder(tokens)
    folder = find_image_folder(list(captions), root, images)
    records = [
        CaptionRecord(name, folder / name, texts, splits.get(name, UNLISTED))
        for name, texts in captions.items()
        if name != NO_PHOTO
    ]
    return select_split(records, split, path)


def _find_token_file(folder: Path, layout: _Layout) -> Path:
    """The token file in `folder` or a folder in it."""
    for name in layout.tokens:
        for candidate in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            if candidate.is_file():
                return candidate
    raise InputError(
        f"{folder}: no {' or '.join(layout.tokens)} in it. Give the folder of the token file."
    )


def _read_tokens(path: Path) -> dict[str, tuple[str, ...]]:
    """Captions by photo name, ascending by caption number, photos in the file's order."""
    numbered: dict[str, list[tuple[int, str]]] = {}
    lines = read_text(path).split("\n")
    for position, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = _LINE.match(line.rstrip("\r"))
        if found is None:
            raise InputError(
                f"{path}, line {position}: {line[:60]!r} is not NAME.jpg#N<tab>caption. "
                "The file is cut off or another dataset's: download it again."
            )
        captions = numbered.setdefault(found["name"], [])
        captions.append((int(found["number"]), clean_caption(found["caption"])))
    if not numbered:
        raise InputError(f"{path}: empty. Download the token file again.")
    return {name: tuple(text for _, text in sorted(texts)) for name, texts in numbered.items()}


def _read_lists(
    folder: Path, layout: _Layout, known: Sequence[str] | set[str], wanted: str | None
) -> dict[str, str]:
    """Split of each listed photo."""
    splits: dict[str, str] = {}
    for split, name in layout.lists:
        file = folder / name
        if not file.is_file():
            if split == wanted:
                raise InputError(f"{file}: not there, and it lists split {split}. Put it there.")
            continue
        listed = [line.strip() for line in read_text(file).splitlines() if line.strip()]
        listed = [entry if entry.endswith(".jpg") else f"{entry}.jpg" for entry in listed]
        strangers = [entry for entry in listed if entry not in known]
        twice = [entry for entry in listed if entry in splits]
        if strangers or twice:
            what = "without captions in the token file" if strangers else "also in another list"
            raise InputError(
                f"{file}: {len(strangers or twice)} of {len(listed)} photos are {what}, such as "
                f"{(strangers or twice)[0]}. Use lists and token file of one dataset."
            )
        splits.update(dict.fromkeys(listed, split))
    return splits
