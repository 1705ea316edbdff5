"""Annotation files in COCO's layout, which COCO, nocaps and VizWiz share: images and captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefixcap.datasets.annotations import field, read_json
from prefixcap.datasets.records import clean_caption
from prefixcap.errors import InputError

KINDS = {
    "coco": "COCO captions",
    "nocaps": "nocaps",
    "vizwiz": "VizWiz-Captions",
    "karpathy": "Karpathy's splits",
    "objects": "COCO objects or keypoints, without captions",
    "images": "a list of images without captions",
    "unknown": "no caption dataset that is known here",
}
READ_AS = ("coco", "nocaps", "vizwiz", "karpathy")  # kinds that a reader of that name reads


@dataclass(frozen=True)
class CaptionsJson:
    """One annotation file.

    Attributes:
        path: where it was read from.
        images: its entries as published, each with an integer `id` and a `file_name`.
        annotations: image id -> its annotations, ascending by annotation id.
    """

    path: Path
    images: list[dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]

    def captions(self, image_id: int) -> tuple[str, ...]:
        """Captions of one image, cleaned, ascending by annotation id."""
        return tuple(clean_caption(entry["caption"]) for entry in self.annotations[image_id])


def read_captions_json(path: Path, dataset: str, *, captionless: bool = False) -> CaptionsJson:
    """Images and annotations of a file of `dataset`, one of `KINDS`.

    Args:
        path: the annotation file.
        dataset: which dataset's file it has to be.
        captionless: allow a file without annotations, as test splits are published.

    Raises:
        InputError: cut-off JSON, another dataset's file, ids without images, ids listed twice.
    """
    value = read_json(path)
    kind = recognise(value)
    if kind != dataset and not (captionless and kind == "images"):
        advice = f'Read it as "{kind}"' if kind in READ_AS else ""
        raise InputError(
            f"{path}: this is {KINDS[kind]} ({_outline(value)}), expected {KINDS[dataset]}. "
            f"{advice or 'Give the annotation file of that dataset'}."
        )
    annotations = value.get("annotations")
    if annotations is None and not captionless:
        raise InputError(f"{path}: has no annotations. Give the file with the captions.")
    if not isinstance(annotations, list | None):
        raise InputError(
            f"{path}: annotations is a {type(annotations).__name__}, expected a list. Download it "
            "again."
        )
    images = _checked_images(value["images"], path)
    ids = [entry["id"] for entry in images]
    return CaptionsJson(path, images, _group(annotations or [], ids, path))


def recognise(value: Any) -> str:
    """Key of `KINDS` for the content of a JSON file."""
    images = value.get("images") if isinstance(value, dict) else None
    if not isinstance(images, list):
        return "unknown"
    image = images[0] if images and isinstance(images[0], dict) else {}
    annotations = value.get("annotations")
    entries = annotations if isinstance(annotations, list) and annotations else [{}]
    first = entries[0] if isinstance(entries[0], dict) else {}
    if "dataset" in value or "sentences" in image:
        return "karpathy"
    if "open_images_id" in image or "domain" in image:
        return "nocaps"
    if "vizwiz_url" in image or "is_rejected" in first:
        return "vizwiz"
    if "bbox" in first or "keypoints" in first:
        return "objects"
    return "coco" if "caption" in first or value.get("annotations") == [] else "images"


def _outline(value: Any) -> str:
    """What a JSON file holds, for a message."""
    if isinstance(value, dict):
        return f"keys {', '.join(sorted(value)[:6])}"
    return f"a {type(value).__name__}"


def _checked_images(entries: list[Any], path: Path) -> list[dict[str, Any]]:
    """The entries of `images`, each with an integer id, once, and a file name."""
    for entry in entries:
        field(entry, "id", int, f"{path}: images")
        field(entry, "file_name", str, f"{path}: images")
    if len({entry["id"] for entry in entries}) < len(entries):
        raise InputError(f"{path}: an image id is listed twice in images. Download it again.")
    return entries


def _group(entries: Any, ids: Sequence[int], path: Path) -> dict[int, list[dict[str, Any]]]:
    """Annotations by image id; an empty list for images without any."""
    grouped: dict[int, list[dict[str, Any]]] = {image_id: [] for image_id in ids}
    strangers: set[int] = set()
    for entry in entries:
        image_id = field(entry, "image_id", int, f"{path}: annotations")
        field(entry, "caption", str, f"{path}: annotations")
        field(entry, "id", int, f"{path}: annotations")
        if image_id in grouped:
            grouped[image_id].append(entry)
        else:
            strangers.add(image_id)
    if strangers:
        raise InputError(
            f"{path}: captions of {len(strangers)} image ids that are not in its images, such as "
            f"{min(strangers)}. The file was cut or mixed: download it again."
        )
    for annotations in grouped.values():
        annotations.sort(key=lambda entry: entry["id"])
    return grouped
