"""What the evaluation servers of COCO, nocaps and VizWiz would refuse in a captions file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefixcap.caption_results import listed
from prefixcap.datasets.annotations import read_json
from prefixcap.datasets.counts import PUBLISHED
from prefixcap.datasets.records import CaptionRecord

SERVERS = {"coco": "COCO", "nocaps": "nocaps", "vizwiz": "VizWiz"}  # by dataset
COCO_SPLITS = ("val", "test")  # of 2014, which its server scores


def _server_of(dataset: str) -> str | None:
    """Key of `SERVERS` for a dataset's format, None where there is no server."""
    name = dataset.removesuffix("-usable")  # VizWiz's usable captions are of the same images
    return name if name in SERVERS else None


def server_faults(path: Path, dataset: str, records: Sequence[CaptionRecord]) -> list[str]:
    """What the dataset's server would refuse in the file, one line each; [] where there is none.

    The servers want [{"image_id": 42, "caption": "a dog"}, ...] with each image of the split once
    and no other, ids as whole numbers.

    Raises:
        InputError: the file is no JSON.
    """
    server = _server_of(dataset)
    if server is None:
        return []
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return ["it is no list of objects"]
    ids = [entry.get("image_id") for entry in entries]
    counts = Counter(str(image_id) for image_id in ids)
    expected = [record.image_id for record in records]
    faults = {
        "have no caption": [key for key in expected if key not in counts],
        "are not of the split": sorted(counts.keys() - set(expected)),
        "have several captions": [key for key, count in counts.items() if count > 1],
        "have an id that is no whole number": [str(key) for key in ids if type(key) is not int],
        "have a caption that is no text": _ids(entries, lambda text: not isinstance(text, str)),
        "have an empty caption": _ids(
            entries, lambda text: isinstance(text, str) and not text.strip()
        ),
    }
    found = [f"{len(keys)} images {what}: {listed(keys)}" for what, keys in faults.items() if keys]
    return found + _part_of_split(server, records)


def _ids(entries: Sequence[dict[str, Any]], is_wrong: Any) -> list[str]:
    """Image ids of the entries with a wrong caption."""
    return [str(entry.get("image_id")) for entry in entries if is_wrong(entry.get("caption"))]


def _part_of_split(server: str, records: Sequence[CaptionRecord]) -> list[str]:
    """A line where the records are not as many as the server's split has."""
    splits = {record.split for record in records}
    if len(splits) != 1:
        return [f"it mixes the splits {', '.join(sorted(splits))}"]
    editions = PUBLISHED[server].get(splits.pop(), ())  # the one that the server scores first
    if editions and len(records) != editions[0].images:
        return [f"{len(records)} images, the whole split has {editions[0].images}"]
    return []


def how_to_submit(dataset: str, records: Sequence[CaptionRecord]) -> str | None:
    """How the server wants a file of these images without faults; None where it takes none."""
    server = _server_of(dataset)
    if server is None:
        return None
    if server != "coco":
        return f"{SERVERS[server]}'s server takes it as it is"
    split = records[0].split
    if split not in COCO_SPLITS:
        return None
    return (
        f"COCO's server takes it as captions_{split}2014_NAME_results.json, val and test together "
        "in one zip"
    )
