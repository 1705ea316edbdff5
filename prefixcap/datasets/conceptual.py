"""Conceptual Captions: the TSV of captions and links, and the photos that img2dataset found.

Sharma et al. 2018: `Train_GCC-training.tsv` and `Validation_GCC-1.1.0-Validation.tsv`, no header,
caption<tab>url; about a third of the links are dead. CC12M has the columns the other way round.
Photos and captions are joined by link and caption, never by row number: in the original code the
rows of captions and photos could slip, and a model then says the same for every image.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from prefixcap.atomic import replacing
from prefixcap.datasets import img2dataset
from prefixcap.datasets.annotations import unended
from prefixcap.datasets.counts import PUBLISHED, Edition
from prefixcap.datasets.img2dataset import Attempt
from prefixcap.datasets.records import CaptionRecord, Remark, clean_caption
from prefixcap.datasets.webdataset import split_of
from prefixcap.errors import InputError

_REASONS_SHOWN = 3
_HEADERS = ({"caption", "url"}, {"text", "url"})


@dataclass(frozen=True)
class Link:
    """One row of the TSV, counted from 0."""

    row: int
    caption: str
    url: str


@dataclass(frozen=True)
class ManifestRow:
    """One row of the TSV with its photo (a path as in records), or why there is none."""

    row: int
    url: str
    path: str | None
    reason: str


@dataclass(frozen=True)
class Manifest:
    """Which photos of a TSV are there."""

    rows: tuple[ManifestRow, ...]

    @property
    def found(self) -> int:
        """Rows with a photo."""
        return sum(row.path is not None for row in self.rows)

    @property
    def missing(self) -> int:
        """Rows without one."""
        return len(self.rows) - self.found

    def reasons(self) -> Counter[str]:
        """How often each reason keeps a photo away."""
        return Counter(row.reason for row in self.rows if row.path is None)

    def write(self, path: Path) -> None:
        """Write one JSON line per row to `path`, atomically."""
        with replacing(path) as part, part.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in self.rows)


def read(path: Path, split: str | None = None, images: Path | None = None) -> list[CaptionRecord]:
    """Records of the photos that are there, one caption each; ids are `SPLIT/KEY`.

    Args:
        path: img2dataset's output folder, a folder of such folders named after splits
            (`train/`, `val/`), or a TSV.
        split: "train" or "val", as the name of folder or TSV says.
        images: for a TSV, img2dataset's output folder where it does not lie beside it.

    Raises:
        InputError: cut-off TSV or shard, no photos, no such split, or photos of another TSV.
    """
    if path.is_file():
        _refuse_split(path, _tsv_split(path), split)
        folder = images or _output_beside(path)
        paths = _paths_by_link(img2dataset.read_attempts(folder))
        found = [(link, paths.get((link.url, link.caption))) for link in read_links(path)]
        records = [
            _record(key, photo, link.caption, _tsv_split(path))
            for link, attempt in found
            if attempt is not None
            for key, photo in [attempt]
        ]
        if not records:
            raise InputError(
                f"{folder}: none of its photos is in {path}. Give the folder of that TSV."
            )
        return records
    folders = _output_folders(path, split)
    return [
        _record(attempt.key, attempt.path, attempt.caption, name)
        for name, folder in folders
        for attempt in img2dataset.read_attempts(folder)
        if attempt.path is not None
    ]


def read_links(path: Path) -> Iterator[Link]:
    """Rows of a TSV of captions and links, in either order of columns, a header left out.

    Raises:
        InputError: not UTF-8, or a row of another form: cut off, or another dataset's file.
    """
    row = 0
    for number, line in _lines(path):
        cells = line.rstrip("\r\n").split("\t")
        if number == 1 and {cell.lower() for cell in cells} in _HEADERS:
            continue
        has_two = len(cells) == 2
        caption, url = reversed(cells) if has_two and _is_url(cells[0]) else (cells[0], cells[-1])
        if not has_two or not _is_url(url):
            raise InputError(
                f"{path}, line {number}: {line[:60]!r} is not caption<tab>url. "
                "The file is cut off or another dataset's: download it again."
            )
        yield Link(row, clean_caption(caption), url)
        row += 1


def manifest(tsv: Path, folder: Path) -> Manifest:
    """Which rows of `tsv` have a photo in img2dataset's output `folder`, and why the others not.

    Reasons are img2dataset's own messages; "not tried" where no attempt is recorded, and "not
    found" where pyarrow is not installed to read why.

    Raises:
        InputError: as in `read`.
    """
    reasons: dict[tuple[str, str], str] = {}
    attempts = list(img2dataset.read_attempts(folder))
    for attempt in attempts:
        reasons[attempt.url, attempt.caption] = attempt.reason
    paths = _paths_by_link(attempts)
    tried = img2dataset.read_statistics(folder).count
    otherwise = "not tried" if len(attempts) == tried else "not found"
    rows = []
    for link in read_links(tsv):
        key = (link.url, link.caption)
        photo = paths.get(key)
        reason = reasons.get(key, otherwise)
        rows.append(ManifestRow(link.row, link.url, str(photo[1]) if photo else None, reason))
    return Manifest(tuple(rows))


def write_manifest(path: Path, file: Path, images: Path | None = None) -> None:
    """Write the manifest of a TSV to `file`, atomically; `path` and `images` as in `read`.

    Raises:
        InputError: `path` is no TSV, or `file` is, or errors of `read`.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "not there"
        raise InputError(
            f"{path}: {found}, expected a TSV, whose rows a manifest lists. Give the TSV as the "
            "path, and img2dataset's folder as --images."
        )
    if file.exists() and file.samefile(path):
        raise InputError(f"{file}: the manifest would replace its own TSV. Give another file.")
    manifest(path, images or _output_beside(path)).write(file)


def edition(path: Path, split: str | None = None) -> Edition:
    """None to compare photos with, since links die; `remarks` compares the links."""
    return Edition("photos of conceptual")


def remarks(path: Path, split: str | None = None, images: Path | None = None) -> list[Remark]:
    """How many links there are beside the published ones, how many have no photo, and why.

    Arguments and errors as in `read`.
    """
    if not path.is_file():
        outputs = _output_folders(path, split)
        return [remark for one in outputs for remark in _remarks_of_output(*one)]
    folder = images or _output_beside(path)
    found = manifest(path, folder)
    missing = tuple(
        f"row {row.row}: {row.url}: {row.reason}" for row in found.rows if row.path is None
    )
    advice = (
        f"{found.found:,} of {len(found.rows):,} links have theirs{_listed(found.reasons())}. "
        "Dead links are usual. Every row with its photo or reason: --manifest FILE"
    )
    rows, tried = len(found.rows), img2dataset.read_statistics(folder).count
    verdict = _verdict(_tsv_split(path), rows)
    if rows != tried:
        verdict += (
            f". img2dataset tried {tried:,} links: this TSV was cut off, or is not the one it read"
        )
    return [
        Remark("links of the TSV", rows, (), verdict),
        Remark("links of the TSV without a photo", found.missing, missing, advice),
        *unended(path),
    ]


def _remarks_of_output(split: str, folder: Path) -> list[Remark]:
    """What the statistics of one output of img2dataset count."""
    found = img2dataset.read_statistics(folder)
    failures = found.reasons - Counter({img2dataset.SUCCESS: found.reasons[img2dataset.SUCCESS]})
    examples = tuple(f"{reason}: {count:,}" for reason, count in failures.most_common())
    advice = f"{found.successes:,} of {found.count:,} links have theirs. Dead links are usual"
    missing = found.count - found.successes
    return [
        Remark(f"links of {split} tried", found.count, (), _verdict(split, found.count)),
        Remark(f"links of {split} without a photo", missing, examples, advice),
    ]


def _verdict(split: str, links: int) -> str:
    """How a number of links compares with the published one of that split."""
    for known in PUBLISHED["conceptual"].get(split, ()):
        if links == known.images:
            return f"As published ({known.source})"
        beside = f"DIFFERS from the published {known.images:,} ({known.source})"
        if links > known.images:
            return f"{beside}: rows of another dataset are in it, such as CC12M"
        return (
            f"{beside}: a subset, or cut off at the end of a line. A subset can be trained on; its "
            "scores do not compare with the papers'"
        )
    return "Nothing published to compare with"


def _listed(reasons: Counter[str]) -> str:
    """The most frequent reasons as the end of a sentence; nothing where there are none."""
    shown = [f"{reason} ({count:,})" for reason, count in reasons.most_common(_REASONS_SHOWN)]
    if len(reasons) > _REASONS_SHOWN:
        shown.append(f"{len(reasons) - _REASONS_SHOWN} other reasons")
    return f", the others not: {', '.join(shown)}" if shown else ""


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a UTF-8 file, numbered from 1, without reading it whole."""
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                yield number, line
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 (byte {error.object[error.start]:#04x} soon after line {number}). "
            "Captions are published as UTF-8: convert it."
        ) from error


def _record(key: str, path: Path, caption: str, split: str) -> CaptionRecord:
    """Record of one photo; img2dataset counts from 0 in each split, so the id names the split."""
    return CaptionRecord(f"{split}/{key}", path, (caption,), split)


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _paths_by_link(attempts: Iterable[Attempt]) -> dict[tuple[str, str], tuple[str, Path]]:
    """Key and photo by (url, caption); the first where a pair was tried twice."""
    found: dict[tuple[str, str], tuple[str, Path]] = {}
    for attempt in attempts:
        if attempt.path is not None:
            found.setdefault((attempt.url, attempt.caption), (attempt.key, attempt.path))
    return found


def _tsv_split(path: Path) -> str:
    """ "val" for the validation TSV, else "train"."""
    return "val" if "valid" in path.stem.lower() else "train"


def _refuse_split(path: Path, found: str, wanted: str | None) -> None:
    if wanted is not None and wanted != found:
        raise InputError(f'{path}: holds split "{found}", but "{wanted}" was asked for.')


def _output_beside(tsv: Path) -> Path:
    """The one folder beside a TSV that img2dataset has written."""
    folders = [folder for folder in sorted(tsv.parent.iterdir()) if img2dataset.is_output(folder)]
    named = [folder for folder in folders if split_of(folder / "0.tar") == _tsv_split(tsv)]
    chosen = named or folders
    if len(chosen) != 1:
        names = ", ".join(folder.name for folder in folders) or "none"
        raise InputError(
            f"{tsv}: only links; expected one folder of photos beside it, found {names}. "
            "Run img2dataset on the TSV, and give its output folder as images."
        )
    return chosen[0]


def _output_folders(path: Path, split: str | None) -> list[tuple[str, Path]]:
    """Split and folder of each output of img2dataset at `path`."""
    folders = [path] if img2dataset.is_output(path) else sorted(path.iterdir())
    found = [(split_of(one / "0.tar"), one) for one in folders if img2dataset.is_output(one)]
    chosen = [(name, one) for name, one in found if split in (None, name)]
    if not chosen:
        names = ", ".join(name for name, _ in found) or "no output of img2dataset"
        raise InputError(
            f'{path}: split "{split or "any"}" is not there; found {names}. '
            "Give the folder with the _stats.json files, or the TSV."
        )
    return chosen
