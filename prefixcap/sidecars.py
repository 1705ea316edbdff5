"""Sidecars: a text file beside each photo, as people keep who caption training folders."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from prefixcap import atomic
from prefixcap.caption_files import Journal, JsonLines, remove_torn
from prefixcap.errors import InputError
from prefixcap.images import PICTURE_SUFFIXES, Photo, Skipped

Existing = Literal["skip", "overwrite", "append", "prepend"]
SEPARATORS = ",;.|"  # with one of these between two texts, no space is put there


@dataclass(frozen=True)
class SidecarOptions:
    """How sidecars are written.

    `existing` says what happens to a photo that has one already: it is left out, its text is
    replaced, or the caption goes after or before it. `before` and `after` surround each caption.
    """

    suffix: str = ".txt"
    existing: Existing = "skip"
    before: str = ""
    after: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\.[^\s/\\]+", self.suffix):
            raise InputError(f"sidecar suffix {self.suffix!r}: expected one such as .txt")
        if self.suffix.lower() in PICTURE_SUFFIXES:
            raise InputError(f"sidecar suffix {self.suffix!r}: would write over pictures; use .txt")

    def path(self, photo: Photo) -> Path:
        """The sidecar of `photo`: its name with another suffix."""
        return photo.path.with_suffix(self.suffix)

    def text(self, caption: str, present: str) -> str:
        """Content of a sidecar for `caption` where it holds the text `present` so far."""
        caption = self.before + caption + self.after
        present = present.strip()
        if self.existing == "append" and present:
            caption = _joined(present, caption)
        elif self.existing == "prepend" and present:
            caption = _joined(caption, present)
        return caption + "\n"


class Sidecars:
    """The sidecars of a run; each is written once, however often the run is killed.

    Before a sidecar is written, a journal gets hashes of its present and of its new content.
    A run that is killed in between finds by them which sidecars it has written already.

    Raises:
        InputError: the journal cannot be written or is in use.
    """

    def __init__(self, options: SidecarOptions, journal: Path) -> None:
        self.options = options
        self._journal = Journal(journal, JsonLines())
        self._written = {str(one["path"]): str(one["after"]) for one in self._journal.records}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._journal.__exit__(*exception)

    def is_foreign(self, photo: Photo) -> bool:
        """Whether `photo` has a sidecar that is not of this run."""
        return photo.key not in self._written and self.options.path(photo).exists()

    def write(self, captions: Mapping[Photo, str]) -> list[Skipped]:
        """Write the sidecar of each photo; those whose present text cannot be read are returned.

        Raises:
            OSError: a folder cannot be written, or the disk is full.
        """
        planned: dict[Photo, str] = {}
        skipped = []
        for photo, caption in captions.items():
            try:
                text = self._new_text(photo, caption)
            except UnicodeDecodeError:
                reason = f"its sidecar {self.options.path(photo).name} is no text in UTF-8"
                skipped.append(Skipped(photo.key, reason))
            else:
                planned |= {} if text is None else {photo: text}
        hashes = {photo.key: _hash(text.encode()) for photo, text in planned.items()}
        self._journal.append([{"path": key, "after": after} for key, after in hashes.items()])
        for photo, text in planned.items():
            atomic.write_text(self.options.path(photo), text)
        self._written |= hashes
        return skipped

    def _new_text(self, photo: Photo, caption: str) -> str | None:
        """Content that the sidecar should get; None where it has got it already."""
        path = self.options.path(photo)
        present = path.read_bytes() if path.exists() else None
        if photo.key in self._written:
            remove_torn(path)
        if present is not None and _hash(present) == self._written.get(photo.key):
            return None
        is_added = self.options.existing in ("append", "prepend")
        return self.options.text(
            caption, present.decode("utf-8-sig") if present and is_added else ""
        )

    def finish(self) -> None:
        """Drop the journal: every caption is in the records."""
        self._journal.path.unlink(missing_ok=True)


def check_sidecars(photos: Sequence[Photo], options: SidecarOptions) -> None:
    """Nothing, where each photo has a sidecar of its own in a folder that can be written.

    Raises:
        InputError: two photos differ only in their suffix, or a folder is read-only.
    """
    counts = Counter(options.path(photo) for photo in photos)
    shared = [photo.key for photo in photos if counts[options.path(photo)] > 1]
    if shared:
        raise InputError(
            f"{shared[0]} and {len(shared) - 1} more would share a sidecar with a photo that "
            "differs only in its suffix; rename them, or write --out captions.jsonl instead"
        )
    for folder in sorted({photo.path.parent for photo in photos}):
        if folder.is_dir() and not os.access(folder, os.W_OK):
            raise InputError(
                f"{folder}: no sidecar can be written there (no permission). Write --out "
                "captions.jsonl elsewhere instead"
            )


def _joined(first: str, second: str) -> str:
    """Two texts with a space between, unless one of them brings a separator."""
    is_apart = first[-1].isspace() or second[0].isspace() or second[0] in SEPARATORS
    return first + second if is_apart else f"{first} {second}"


def _hash(content: bytes) -> str:
    """Short hash that tells contents apart."""
    return hashlib.blake2b(content, digest_size=12).hexdigest()
