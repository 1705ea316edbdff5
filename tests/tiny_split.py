"""A split of six images with references, without photos: for tests of what scores captions."""

from pathlib import Path

from prefixcap.datasets.records import CaptionRecord

REFERENCES = {
    "1": ("A dog runs on the grass.", "A brown dog is running."),
    "2": ("Two cats sleep on a bed.", "Cats lying on a bed."),
    "3": ("A man rides a horse.", "A person on a horse."),
    "4": ("A red car in the snow.", "The car is covered with snow."),
    "5": ("Children play with a ball.", "Two kids and a ball."),
    "6": ("A boat on the lake.", "A small boat floats on calm water."),
}
GOOD = {key: texts[0].replace("A ", "The ") for key, texts in REFERENCES.items()}
POOR = dict.fromkeys(REFERENCES, "a dog on the water")


def records(domain: bool = False) -> list[CaptionRecord]:
    """Records of split "dev"; with domains, three images each of two of them."""
    return [
        CaptionRecord(
            key,
            Path("photos") / f"COCO_{int(key):06}.jpg",
            texts,
            "dev",
            ("in-domain" if int(key) <= 3 else "out-domain") if domain else None,
        )
        for key, texts in REFERENCES.items()
    ]
