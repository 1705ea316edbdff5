"""The folder that holds a dataset's photos: given, or found beside its annotation file."""

import os
from collections.abc import Sequence
from pathlib import Path

from prefixcap.errors import InputError

_PROBES = 64  # names looked up per folder; enough to tell a folder with 1 in 20 of the photos


# Folders that datasets keep their text in, beside the folders of photos.
_TEXT_FOLDERS = frozenset(
    ("annotations", "captions", "text", "flickr8k_text", "caption_datasets", "karpathy")
)


def dataset_folder(annotations: Path) -> Path:
    """Folder to search for the photos of an annotation file: its own, or the one above `text/`."""
    folder = annotations.parent
    return folder.parent if folder.name.lower() in _TEXT_FOLDERS else folder


def find_image_folder(names: Sequence[str], root: Path, images: Path | None) -> Path:
    """Folder under which the photos `names` (file names, "/" allowed) lie.

    `images` is taken as it is. Otherwise `root`, then the folders in it, then the folders in those
    are tried: the one that holds most of the names wins, the earlier of equals. Folders that may
    not be read (`lost+found`) are passed over, except `root` itself.

    Raises:
        InputError: `images` is not a folder, none of the photos is in any of the folders, or a
            name that no file can have.
        OSError: `root` cannot be listed.
    """
    unusable = next((name for name in names if "\0" in name), None)
    if unusable is not None:
        raise InputError(f"{root}: {unusable!r:.80} is no name of a photo. Write that entry again.")
    if images is not None:
        if not Path(images).is_dir():
            raise InputError(f"{images}: not a folder. Give the folder of the photos as images.")
        return Path(images)
    tried: list[Path] = []
    level = [root]
    for _ in range(3):
        found = _fullest(level, names)
        if found is not None:
            return found
        tried += level
        inner = [_folders_in(folder, must_read=folder == root) for folder in level]
        level = [child for children in inner for child in children if child not in tried]
    example = names[0] if names else "any photo"
    raise InputError(
        f"{root}: {example} and the other {max(len(names) - 1, 0)} photos are not in it nor in "
        f"its folders ({len(tried)} looked through). Give the folder of the photos as images."
    )


def _fullest(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    """The folder with most of a spread sample of `names`; then of all names; None where none is."""
    sample = names[:: max(1, len(names) // _PROBES)]
    for looked_up in (sample, names):
        # Unlike Path.is_file, os.path.isfile is False where it may not be known.
        hits = [sum(os.path.isfile(folder / name) for name in looked_up) for folder in folders]
        if hits and max(hits) > 0:
            return folders[hits.index(max(hits))]
    return None


def _folders_in(folder: Path, *, must_read: bool) -> list[Path]:
    """Folders directly in `folder`, by name; none where it cannot be listed and need not be."""
    if not os.path.isdir(folder):
        return []
    try:
        names = os.listdir(folder)
    except OSError:
        if must_read:
            raise
        return []
    return sorted(folder / name for name in names if os.path.isdir(folder / name))
