"""nocaps: the validation JSON with its domains, and the test list without captions.

Agrawal et al. 2019: COCO's layout; each image of `nocaps_val_4500_captions.json` also has
`open_images_id` and `domain` ("in-domain", "near-domain", "out-domain"); ten captions an image.
"""

from pathlib import Path

from prefixcap.datasets.captions_json import CaptionsJson, read_captions_json
from prefixcap.datasets.photos import dataset_folder, find_image_folder
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError

DOMAINS = ("in-domain", "near-domain", "out-domain")


def read(path: Path, split: str | None = None, images: Path | None = None) -> list[CaptionRecord]:
    """Records of a nocaps file, or of the `nocaps_*.json` of one or all splits in a folder.

    Args:
        path: `nocaps_val_4500_captions.json`, or a folder with it (or with `annotations/`).
        split: "val" or "test"; test is published without captions.
        images: folder of the photos; without it, searched beside the file.

    Raises:
        InputError: cut-off or foreign file, no such split, an unknown domain, or no photos found.
    """
    files = [path] if path.is_file() else _files(path)
    chosen = [file for file in files if split is None or split_of(file) == split]
    if not chosen:
        found = ", ".join(f"{file.name} ({split_of(file)})" for file in files) or "no nocaps_*.json"
        raise InputError(f'{path}: no file of split "{split or "val"}"; found {found}.')
    return [record for file in chosen for record in _read_file(file, images)]


def split_of(path: Path) -> str:
    """ "test" where the file's name says so, else "val"."""
    return "test" if "test" in path.stem.lower() else "val"


def _files(folder: Path) -> list[Path]:
    """One file per split; the one with captions where image lists lie beside it."""
    found = sorted([*folder.glob("nocaps_*.json"), *folder.glob("annotations/nocaps_*.json")])
    by_split = {split_of(file): file for file in found if "image_info" in file.stem}
    by_split |= {split_of(file): file for file in found if "image_info" not in file.stem}
    return list(by_split.values())


def _read_file(path: Path, images: Path | None) -> list[CaptionRecord]:
    split = split_of(path)
    content = read_captions_json(path, "nocaps", captionless=split == "test")
    _check_domains(content)
    names = [entry["file_name"] for entry in content.images]
    folder = find_image_folder(names, dataset_folder(content.path), images)
    return [
        CaptionRecord(
            str(entry["id"]),
            folder / entry["file_name"],
            content.captions(entry["id"]),
            split,
            entry.get("domain"),
        )
        for entry in content.images
    ]


def _check_domains(content: CaptionsJson) -> None:
    """Raise where a domain is none of the three; a list without any domain passes."""
    found = {entry.get("domain") for entry in content.images} - {None}
    if found - set(DOMAINS):
        raise InputError(
            f"{content.path}: domains {', '.join(sorted(map(str, found)))}, expected "
            f"{', '.join(DOMAINS)}. Download the nocaps file again."
        )
