"""VizWiz-Captions: train, val and test JSON, and the flags on images and captions.

Gurari et al. 2020, "Captioning Images Taken by People Who Are Blind": `annotations/{train,val,test}
.json` in COCO's layout; images have `text_detected`, captions `is_rejected` (spam) and
`is_precanned` ("Quality issues are too severe to recognize visual content."). The photos lie in
`train/`, `val/`, `test/`; the test captions are not public.
"""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

from prefixcap.datasets.annotations import field
from prefixcap.datasets.captions_json import CaptionsJson, read_captions_json
from prefixcap.datasets.photos import dataset_folder, find_image_folder
from prefixcap.datasets.records import CaptionRecord, Remark
from prefixcap.errors import InputError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Flags:
    """What the annotators said of one image; the tuples go with the captions of its record."""

    rejected: tuple[bool, ...]
    precanned: tuple[bool, ...]
    text_detected: bool

    @property
    def usable(self) -> tuple[bool, ...]:
        """True for each caption that the dataset's own evaluation counts."""
        return tuple(
            not rejected and not precanned
            for rejected, precanned in zip(self.rejected, self.precanned, strict=True)
        )


def read(path: Path, split: str | None = None, images: Path | None = None) -> list[CaptionRecord]:
    """Records with every caption as published, rejected and precanned ones too (117,155 in train).

    Args:
        path: `train.json`, or the folder that holds `annotations/` or the three files.
        split: "train", "val" or "test"; None for those that are there.
        images: folder of the photos; without it, searched beside the annotations.

    Raises:
        InputError: cut-off or foreign file, no such split, or no photos found.
    """
    return [
        record
        for file in _files(path, split)
        for record in _records(_content(file), file.stem, images)
    ]


def read_usable(
    path: Path, split: str | None = None, images: Path | None = None
) -> list[CaptionRecord]:
    """Records without rejected and precanned captions, as the dataset's own evaluation counts.

    Images of train and val that keep no caption are left out. Arguments and errors as in `read`.
    """
    flags = read_flags(path, split)
    usable = []
    for record in read(path, split, images):
        marks = flags[record.split, record.image_id]
        kept = tuple(compress(record.captions, marks.usable))
        if kept or record.split == "test":
            usable.append(replace(record, captions=kept))
    return usable


def read_flags(path: Path, split: str | None = None) -> dict[tuple[str, str], Flags]:
    """Flags by (split, image id); needs no photos.

    Raises:
        InputError: cut-off or foreign file, or no such split.
    """
    return {
        (file.stem, str(entry["id"])): _flags(content, entry["id"], bool(entry["text_detected"]))
        for file in _files(path, split)
        for content in [_content(file)]
        for entry in content.images
    }


def remarks(path: Path, split: str | None = None, images: Path | None = None) -> list[Remark]:
    """How many captions and images have which flag; `images` is not used. Errors as in `read`."""
    flags = read_flags(path, split)
    found = (
        (
            "rejected captions",
            {key: sum(one.rejected) for key, one in flags.items()},
            "Spam, which vizwiz-usable leaves out",
        ),
        (
            "precanned captions",
            {key: sum(one.precanned) for key, one in flags.items()},
            '"Quality issues are too severe ...", which vizwiz-usable leaves out',
        ),
        (
            "images without a usable caption",
            {key: bool(one.usable) and not any(one.usable) for key, one in flags.items()},
            "All of theirs are rejected or precanned; vizwiz-usable leaves these images out",
        ),
        (
            "images with text in them",
            {key: one.text_detected for key, one in flags.items()},
            "text_detected, as the annotators say",
        ),
    )
    return [_remark(what, times, advice) for what, times, advice in found if any(times.values())]


def _remark(what: str, times: dict[tuple[str, str], int], advice: str) -> Remark:
    """The remark on what is so many times at each image; the images are its examples."""
    by_split: Counter[str] = Counter()
    for (split, _), count in times.items():
        by_split[split] += count
    parts = ", ".join(f"{split} {count:,}" for split, count in by_split.items())
    places = tuple(f"{image_id} ({split})" for (split, image_id), count in times.items() if count)
    return Remark(what, sum(times.values()), places, f"{parts}. {advice}")


def _files(path: Path, split: str | None) -> list[Path]:
    """Annotation files of the splits asked for."""
    folder = path / "annotations" if (path / "annotations").is_dir() else path
    files = [path] if path.is_file() else [folder / f"{name}.json" for name in SPLITS]
    files = [file for file in files if file.is_file()]
    chosen = [file for file in files if split is None or file.stem == split]
    if not chosen:
        found = ", ".join(file.name for file in files) or "none of train.json, val.json, test.json"
        raise InputError(
            f'{path}: no annotations of split "{split or "any"}"; found {found}. '
            "Give the VizWiz-Captions folder, or the annotation file of that split."
        )
    return chosen


def _content(file: Path) -> CaptionsJson:
    """One annotation file, its flags checked; named after the split that its photos belong to."""
    content = read_captions_json(file, "vizwiz", captionless=file.stem == "test")
    for entry in content.images:
        field(entry, "text_detected", bool, f"{file}: images")
    names = [entry["file_name"] for entry in content.images]
    stated = {split for split in SPLITS if any(n.startswith(f"VizWiz_{split}_") for n in names)}
    if file.stem in SPLITS and stated and stated != {file.stem}:
        raise InputError(
            f"{file}: named as split {file.stem}, but its photos are of "
            f"{', '.join(sorted(stated))}. Give the annotation file of that split."
        )
    return content


def _flags(content: CaptionsJson, image_id: int, text_detected: bool) -> Flags:
    where = f"{content.path}: annotations"
    entries = content.annotations[image_id]
    return Flags(
        tuple(field(entry, "is_rejected", bool, where) for entry in entries),
        tuple(field(entry, "is_precanned", bool, where) for entry in entries),
        text_detected,
    )


def _records(content: CaptionsJson, split: str, images: Path | None) -> list[CaptionRecord]:
    names = [entry["file_name"] for entry in content.images]
    folder = find_image_folder(names, dataset_folder(content.path), images)
    return [
        CaptionRecord(
            str(entry["id"]), folder / entry["file_name"], content.captions(entry["id"]), split
        )
        for entry in content.images
    ]
