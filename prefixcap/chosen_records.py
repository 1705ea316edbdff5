"""Which photos of a data set a recipe means: those that a file names, those of some rows."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prefixcap.datasets.annotations import read_text
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError


def named_records(records: Sequence[CaptionRecord], file: Path) -> list[CaptionRecord]:
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


def rows_of_records(
    records: Sequence[CaptionRecord], rows: tuple[int, int], source: str
) -> Sequence[CaptionRecord]:
    """Records from the first row up to, not including, the second.

    Raises:
        InputError: there are fewer.
    """
    if rows[1] > len(records):
        raise InputError(f"{source}: has {len(records)} images, asked for rows {list(rows)}")
    return records[rows[0] : rows[1]]
