"""Rows of your own tables: which column is the photo, which the caption; rows become records."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefixcap.datasets.photos import find_image_folder
from prefixcap.datasets.records import CaptionRecord, clean_caption, refuse_shared_ids, shared_id
from prefixcap.errors import InputError

IMAGE_COLUMNS = (
    "image",
    "path",
    "file_name",
    "filename",
    "image_path",
    "file",
    "photo",
    "image_name",
)
CAPTION_COLUMNS = ("caption", "captions", "text", "sentence", "sentences", "comment")
# caption_0, caption_1, ...; "caption.1" is how pandas renames a second column "caption".
_IS_CAPTION = re.compile(r"captions?(?:[_. ]?(?P<number>\d+))?")
SPLIT_COLUMNS = ("split",)
ID_COLUMNS = ("image_id", "id")
DEFAULT_SPLIT = "train"  # of tables without a split column
COMPARED = 8  # pairs of rows of one id whose pictures are compared; each may cost a row group
# Words behind "caption_" that say it is something about a caption.
_ABOUT = re.compile(r".*_(?:ids?|no|number|index|count|length|len|lang|language|url|score|source)")


@dataclass(frozen=True)
class Columns:
    """Names of the columns of one table; `captions` are all that hold captions, in order."""

    image: str
    captions: tuple[str, ...]
    split: str | None
    image_id: str | None


def choose_columns(names: Sequence[str], source: Path) -> Columns:
    """The columns of a table that hold photo, captions, split and id.

    All of `caption`, `captions`, `caption_1`, `caption_2`, ... are captions. Only where a table has
    none of them, the first other name of `CAPTION_COLUMNS` is, or all of `caption_en`,
    `caption_short` and the like are.

    Raises:
        InputError: no column has one of the names for photo or caption, or two columns have the
            same name.
    """
    image = photo_column(names)
    captions = _caption_columns(names)
    if image is None or not captions:
        raise InputError(
            f"{source}: columns {', '.join(map(str, names)) or 'none'}; expected one for the photo "
            f"({', '.join(IMAGE_COLUMNS)}) and one for the caption ({', '.join(CAPTION_COLUMNS)}). "
            "Rename yours."
        )
    columns = Columns(image, captions, _first(SPLIT_COLUMNS, names), _first(ID_COLUMNS, names))
    _refuse_twins(columns, names, source)
    return columns


def photo_column(names: Sequence[str]) -> str | None:
    """The column of a table that holds photos or their names; None where it has none."""
    return _first(IMAGE_COLUMNS, names)


def captions_in(value: Any, where: str) -> list[str]:
    """Captions in one cell: a text, or a list of texts; none for an empty cell.

    Raises:
        InputError: anything else.
    """
    values = [] if value is None else value if isinstance(value, list | tuple) else [value]
    for text in values:
        if not isinstance(text, str):
            raise InputError(f"{where}: caption {text!r:.60} is not text. Mend that row.")
    return [clean_caption(text) for text in values]


def row_captions(row: Mapping[str, Any], columns: Columns, where: str) -> list[str]:
    """Captions of a row, column after column; blank cells count only where all are blank.

    Raises:
        InputError: as in `captions_in`.
    """
    cells = [captions_in(row.get(column), where) for column in columns.captions]
    filled = [texts for texts in cells if any(texts)]
    return [text for texts in filled or cells[:1] for text in texts]


def row_id(row: Mapping[str, Any], columns: Columns) -> str | None:
    """The id that a row gives its photo; None where it has no such column or a blank cell."""
    value = row.get(columns.image_id) if columns.image_id is not None else None
    return str(value) if value is not None and str(value).strip() else None


def to_records(
    rows: Iterable[tuple[int, Mapping[str, Any]]],
    columns: Columns,
    source: Path,
    images: Path | None,
) -> list[CaptionRecord]:
    """Records of numbered rows with a photo's name in them; rows of one photo become one record.

    Names are relative to `images`, or to the folder of `source` or one in it. Ids are those of the
    id column, else the names.

    Raises:
        InputError: a row without a photo's name, a caption that is no text, an id that two photos
            share, or no photos found.
    """
    grouped: dict[tuple[str, str], list[str]] = {}
    ids: dict[str, str] = {}
    for number, row in rows:
        where = f"{source}, row {number}"
        name = row.get(columns.image)
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{where}: no photo in column {columns.image}. Mend that row.")
        name = name.strip()
        texts = row_captions(row, columns, where)
        grouped.setdefault((name, split_in(row, columns)), []).extend(texts)
        given = row_id(row, columns)
        if given is not None:
            ids.setdefault(name, given)
    if not grouped:
        raise InputError(f"{source}: no rows. Give a table with a photo and a caption in each row.")
    folder = find_image_folder(
        list(dict.fromkeys(name for name, _ in grouped)), source.parent, images
    )
    records = [
        CaptionRecord(ids.get(name, name), folder / name, tuple(captions), split)
        for (name, split), captions in grouped.items()
    ]
    refuse_shared_ids(records, source)
    return records


def merge_rows(
    records: Iterable[CaptionRecord], picture: Callable[[Path], bytes], source: Path
) -> list[CaptionRecord]:
    """Records of rows with pictures inside; those of one id and split become one, the first's.

    Pictures cost much to read, so only those of the first `COMPARED` such pairs are compared, by
    `picture` of their paths.

    Raises:
        InputError: two rows of one id have different pictures.
    """
    found: dict[tuple[str, str], CaptionRecord] = {}
    captions: dict[tuple[str, str], list[str]] = {}
    compared = 0
    for record in records:
        key = record.split, record.image_id
        captions.setdefault(key, []).extend(record.captions)
        first = found.setdefault(key, record)
        if first.path != record.path and compared < COMPARED:
            compared += 1
            if picture(first.path) != picture(record.path):
                raise shared_id(record.image_id, first.path, record.path, source)
    return [replace(record, captions=tuple(captions[key])) for key, record in found.items()]


def split_in(row: Mapping[str, Any], columns: Columns) -> str:
    """Split of a row, `DEFAULT_SPLIT` where the table has no such column or the cell is empty."""
    return str(row.get(columns.split) or DEFAULT_SPLIT) if columns.split else DEFAULT_SPLIT


def _caption_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Names of the caption columns: those without a number first, then by number."""
    lower = {name: name.lower().strip() for name in names}
    numbers = {
        name: int(found["number"] or -1)
        for name in names
        if (found := _IS_CAPTION.fullmatch(lower[name]))
    }
    if numbers:
        return tuple(sorted(numbers, key=lambda name: (numbers[name], name.lower())))
    other = _first(CAPTION_COLUMNS, names)
    if other is not None:
        return (other,)
    kinds = [name for name in lower if lower[name].startswith("caption_")]
    return tuple(sorted(name for name in kinds if not _ABOUT.fullmatch(lower[name])))


def _refuse_twins(columns: Columns, names: Sequence[str], source: Path) -> None:
    """Raise where another column has the name of a chosen one, capitals and blanks ignored."""
    chosen = (columns.image, *columns.captions, columns.split, columns.image_id)
    times = Counter(name.lower().strip() for name in names)
    twins = [name for name in chosen if name is not None and times[name.lower().strip()] > 1]
    if twins:
        raise InputError(
            f'{source}: {times[twins[0].lower().strip()]} columns are called "{twins[0].strip()}". '
            "Give each its own name; columns of captions may be caption_1, caption_2 and so on."
        )


def _first(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    """The table's name of the first wanted column that it has, capitals ignored."""
    by_lower = {name.lower().strip(): name for name in reversed(names)}
    return next((by_lower[name] for name in wanted if name in by_lower), None)
