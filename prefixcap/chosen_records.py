"""Which photos of a data set a recipe means: those of a file, of a share, of some rows."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prefixcap.datasets.annotations import read_text
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError
from prefixcap.recipe import SourceConfig, expand


def chosen(records: Sequence[CaptionRecord], source: SourceConfig) -> Sequence[CaptionRecord]:
    """Those of a source's records, ids as published, that are meant.

    Raises:
        InputError: they are not there.
    """
    if source.names:
        records = _named(records, expand(source.names))
    if source.share:
        records = _in_share(records, source.share, source.path)
    if source.rows:
        records = _in_rows(records, source.rows, source.path)
    return records[: source.first]


def _named(records: Sequence[CaptionRecord], file: Path) -> list[CaptionRecord]:
    """Records of the images that `file` names by file name or id, one a line, in its order.

    Raises:
        InputError: the file cannot be read, names an image twice, or one that is not there.
    """
    names = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    by_name = {record.path.name: record for record in records}
    by_name |= {record.image_id: record for record in records}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise InputError(
            f"{file}: {len(unknown)} of its {len(names)} names are no image of the source, such as "
            f'"{unknown[0]}". Name images by file name or id, one a line'
        )
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InputError(f'{file}: names "{twice}" twice; leave one of the lines out')
    return [by_name[name] for name in names]


def _in_share(
    records: Sequence[CaptionRecord], share: tuple[float, float], source: str
) -> Sequence[CaptionRecord]:
    """Records whose place lies within the share.

    Raises:
        InputError: there are none.
    """
    found = [record for record in records if share[0] <= place_of(record.image_id) < share[1]]
    if not found:
        raise InputError(
            f"{source}: none of its {len(records)} images is in the share {list(share)}; "
            "take a larger one"
        )
    return found


def place_of(image_id: str) -> float:
    """Where in [0, 1) an image lies; of its id alone, so that it stays there when others come."""
    digest = hashlib.sha256(image_id.encode("utf-8", "surrogateescape")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def _in_rows(
    records: Sequence[CaptionRecord], rows: tuple[int, int], source: str
) -> Sequence[CaptionRecord]:
    """Records from the first row up to, not including, the second.

    Raises:
        InputError: there are fewer.
    """
    if rows[1] > len(records):
        raise InputError(f"{source}: has {len(records)} images, asked for rows {list(rows)}")
    return records[rows[0] : rows[1]]
