"""The COCO 2014 captions that the package pycocoevalcap carries in its SPICE jar."""

import json
import zipfile

from prefixcap.metrics.java import find_in_pycocoevalcap

JAR = "spice/spice-1.0.jar"


def coco_captions(split: str) -> dict[int, list[str]]:
    """Captions of each image of "train" or "val" 2014, in file order, by ascending image id."""
    jar = find_in_pycocoevalcap(JAR, "this benchmark")
    with zipfile.ZipFile(jar) as archive:
        file = json.loads(archive.read(f"coco/annotations/captions_{split}2014.json"))
    captions: dict[int, list[str]] = {}
    for annotation in file["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    return dict(sorted(captions.items()))
