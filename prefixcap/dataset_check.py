"""Whether a dataset can be trained on: counts, photos, captions, and what its splits share."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path

from prefixcap.datasets import edition, photo_source, read, remarks
from prefixcap.datasets.counts import SplitCount, compare
from prefixcap.datasets.oddities import TOO_LONG, encoding_oddity, has_word, is_overlong
from prefixcap.datasets.pictures import Fingerprint, fingerprint, near_duplicates
from prefixcap.datasets.records import CaptionRecord, Remark
from prefixcap.errors import InputError
from prefixcap.images import UnreadableImage, open_rgb

EXAMPLES = 5  # shown of each finding where not all are asked for
# A few odd captions are noise; a larger share is a file that was converted wrongly.
TOLERATED_SHARE = 0.001
_SAME_TRAINING_SET = {"restval": "train"}  # Karpathy's COCO: two names of one training set

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Finding:
    """One kind of thing that is not as it should be.

    Attributes:
        what: the thing, in the plural.
        count: how many there are.
        is_wrong: training on the dataset as it is would be wrong, not just worth knowing.
        examples: what was found, each in one line.
        advice: what to do.
    """

    what: str
    count: int
    is_wrong: bool
    examples: tuple[str, ...]
    advice: str


@dataclass(frozen=True)
class DatasetCheck:
    """What a check has found.

    Attributes:
        name: the dataset's reader.
        counts: each split beside the published counts.
        findings: what is not as it should be; empty for a sound dataset.
        photos_opened: photos that could be opened; 0 where the check was asked not to.
    """

    name: str
    counts: tuple[SplitCount, ...]
    findings: tuple[Finding, ...]
    photos_opened: int

    @property
    def is_wrong(self) -> bool:
        """True when training on the dataset as it is would be wrong: exit code 1."""
        return any(finding.is_wrong for finding in self.findings)

    def lines(self, *, names_all: bool = False) -> list[str]:
        """The check as lines of text for a terminal; with `names_all` every example of a finding.

        Names of photos are as they are, control characters too: whoever prints them escapes them.
        """
        lines = [_count_line(count) for count in self.counts]
        for finding in self.findings:
            mark = "WRONG" if finding.is_wrong else "note"
            lines.append(f"{mark}: {finding.what}: {finding.count:,}. {finding.advice}.")
            shown = finding.examples if names_all else finding.examples[:EXAMPLES]
            lines += [f"    {example}" for example in shown]
            if len(shown) < len(finding.examples):
                lines.append(f"    and {len(finding.examples) - len(shown):,} more: see --all")
        opened = (
            f"{self.photos_opened:,} photos opened" if self.photos_opened else "no photo opened"
        )
        verdict = "do not train on it as it is" if self.is_wrong else "fit to train on"
        return [*lines, f"{self.name}: {opened}; {verdict}."]


@dataclass(frozen=True)
class _Picture:
    """What opening one photo gave: a fingerprint, or why there is none."""

    record: CaptionRecord
    fingerprint: Fingerprint | None
    is_missing: bool
    reason: str


def check(
    name: str,
    path: Path,
    split: str | None = None,
    images: Path | None = None,
    *,
    open_photos: bool = True,
    on_progress: Progress | None = None,
) -> DatasetCheck:
    """Result of reading a whole dataset and opening every photo, on as many threads as cores.

    Args:
        name: a reader of `datasets.READERS`.
        path: as `datasets.read` takes it.
        split: one split; None for all, without which nothing can be said of what splits share.
        images: as `datasets.read` takes it.
        open_photos: False looks at ids and captions only, which takes seconds for any dataset.
        on_progress: called with photos done and photos in all.

    Raises:
        InputError: the dataset cannot be read at all.
    """
    records = read(name, path, split, images)
    counts = tuple(compare(edition(name, path, split), records))
    findings = [*_check_counts(counts), *_check_captions(records), *_check_ids(records)]
    findings += [_noted(remark) for remark in remarks(name, path, split, images)]
    if not records:
        findings.append(Finding("images to train on", 0, True, (), "Give a dataset that has some"))
    pictures = list(_open_all(records, on_progress)) if open_photos else []
    findings += [*_check_photos(pictures), *_check_copies(pictures)]
    opened = sum(picture.fingerprint is not None for picture in pictures)
    return DatasetCheck(name, counts, tuple(findings), opened)


def _count_line(count: SplitCount) -> str:
    line = f"{count.split}: {count.images:,} images, {count.captions:,} captions"
    known = count.published
    if known is None:
        return f"{line}; nothing published to compare with"
    verdict = "as published" if count.agrees else "DIFFERS"
    return f"{line}; published {known.images:,} and {known.captions:,} ({known.source}): {verdict}"


def _finding(what: str, found: Sequence[str], is_wrong: bool, advice: str) -> Iterator[Finding]:
    """The finding, or nothing where nothing was found."""
    if found:
        yield Finding(what, len(found), is_wrong, tuple(found), advice)


def _noted(remark: Remark) -> Finding:
    return Finding(remark.what, remark.count, False, remark.examples, remark.advice)


def _check_counts(counts: Iterable[SplitCount]) -> Iterator[Finding]:
    """More than was published is a mixed-up dataset; less is a subset."""
    counts = list(counts)
    more = [_count_line(count) for count in counts if count.exceeds]
    less = [_count_line(count) for count in counts if not count.agrees and not count.exceeds]
    yield from _finding(
        "splits larger than published", more, True, "Files of several editions are mixed: part them"
    )
    yield from _finding(
        "splits smaller than published",
        less,
        False,
        "A subset can be trained on; its scores do not compare with the papers'",
    )


def _check_captions(records: Sequence[CaptionRecord]) -> Iterator[Finding]:
    without = [
        _place(record) for record in records if not record.captions and record.split != "test"
    ]
    captions = [(record, caption) for record in records for caption in record.captions]
    empty = [
        _quoted(record, caption) if caption else _place(record)
        for record, caption in captions
        if not has_word(caption)
    ]
    long = [_quoted(record, caption) for record, caption in captions if is_overlong(caption)]
    twice = [
        _quoted(record, caption)
        for record in records
        for caption, times in Counter(record.captions).items()
        if times > 1 and caption
    ]
    yield from _finding("images without captions", without, True, "Caption them or leave them out")
    yield from _finding("empty captions", empty, True, "Write or remove them")
    yield from _finding(f"captions of {TOO_LONG}", long, True, "Shorten or remove them")
    yield from _finding(
        "captions twice at one image", twice, False, "They weigh double; remove one if not meant"
    )
    yield from _check_encodings(captions)


def _check_encodings(captions: Sequence[tuple[CaptionRecord, str]]) -> Iterator[Finding]:
    """One finding per kind of oddity."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for record, caption in captions:
        kind = encoding_oddity(caption)
        if kind is not None:
            kinds[kind].append(_quoted(record, caption))
    for kind, found in sorted(kinds.items()):
        is_wrong = len(found) > TOLERATED_SHARE * len(captions)
        advice = "Mend the text: the model would learn to write that" if is_wrong else "Few enough"
        yield from _finding(f"captions with {kind}", found, is_wrong, advice)


def _check_ids(records: Sequence[CaptionRecord]) -> Iterator[Finding]:
    """Ids listed twice in a split, and ids in more than one split."""
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        splits[record.image_id][_training_set(record.split)] += 1
    twice = [
        f"{one} ({split})" for one, found in splits.items() for split in found if found[split] > 1
    ]
    shared = [f"{one} ({', '.join(found)})" for one, found in splits.items() if len(found) > 1]
    yield from _finding("ids twice in one split", twice, True, "Give each image its own id")
    yield from _finding(
        "ids in more than one split", shared, True, "Scores on them would be of trained photos"
    )


def _open_all(records: Sequence[CaptionRecord], on_progress: Progress | None) -> Iterator[_Picture]:
    """Each record's photo opened, in the records' order; a few at a time are in memory."""
    workers = os.cpu_count() or 1
    waiting = iter(records)
    done = 0
    with ThreadPoolExecutor(workers) as pool:
        while chunk := list(islice(waiting, 64 * workers)):
            for picture in pool.map(_open, chunk):
                done += 1
                yield picture
            if on_progress is not None:
                on_progress(done, len(records))


def _open(record: CaptionRecord) -> _Picture:
    """One photo read once: its bytes hashed, then decoded."""
    try:
        content = _content(record.path)
        digest = hashlib.blake2b(content, digest_size=16).digest()
        return _Picture(record, fingerprint(open_rgb(content), digest), False, "")
    except FileNotFoundError:
        return _Picture(record, None, True, "there is no such file")
    except UnreadableImage as error:
        return _Picture(record, None, False, error.reason)
    except (InputError, OSError) as error:
        return _Picture(record, None, False, str(error))


def _content(path: Path) -> bytes:
    """Bytes of a record's photo; a pipe, which would be waited for, is refused as `open_rgb` does.

    Raises:
        InputError, OSError: there is no such file, or it cannot be read.
    """
    source = photo_source(path)
    if isinstance(source, bytes):
        return source
    if source.exists() and not source.is_file():
        open_rgb(source)
    return source.read_bytes()


def _check_photos(pictures: Sequence[_Picture]) -> Iterator[Finding]:
    missing = [str(one.record.path) for one in pictures if one.is_missing]
    unreadable = [
        f"{one.record.path}: {one.reason}"
        for one in pictures
        if one.fingerprint is None and not one.is_missing
    ]
    yield from _finding("photos missing", missing, True, "Download them, or name their folder")
    yield from _finding("photos unreadable", unreadable, True, "Download them again or remove them")


def _check_copies(pictures: Sequence[_Picture]) -> Iterator[Finding]:
    """Equal files within a split and between splits, and nearly equal pictures between splits."""
    seen = [(one.record, one.fingerprint) for one in pictures if one.fingerprint is not None]
    by_digest: dict[bytes, list[CaptionRecord]] = defaultdict(list)
    by_split: dict[str, list[tuple[CaptionRecord, Fingerprint]]] = defaultdict(list)
    for record, found in seen:
        by_digest[found.digest].append(record)
        by_split[_training_set(record.split)].append((record, found))
    within: list[str] = []
    between: list[str] = []
    for records in by_digest.values():
        is_shared = len({_training_set(record.split) for record in records}) > 1
        if len(records) > 1:
            (between if is_shared else within).append(" and ".join(map(_place, records)))
    near = [
        f"{_place(left[one][0])} and {_place(right[other][0])}"
        for left, right in combinations(by_split.values(), 2)
        for one, other in near_duplicates([f for _, f in left], [f for _, f in right])
    ]
    yield from _finding(
        "photos with the same bytes in more than one split",
        between,
        True,
        "Scores on them would be of trained photos: keep each in one split",
    )
    yield from _finding(
        "photos with the same bytes under several ids of one split",
        within,
        False,
        "They weigh double; join their captions if not meant",
    )
    yield from _finding(
        "pairs of nearly the same picture in two splits",
        near,
        False,
        "Look at them: a picture that was trained on is no test",
    )


def _training_set(split: str) -> str:
    return _SAME_TRAINING_SET.get(split, split)


def _place(record: CaptionRecord) -> str:
    return f"{record.image_id} ({record.split})"


def _quoted(record: CaptionRecord, caption: str) -> str:
    return f"{_place(record)}: {caption[:60]!a}"
