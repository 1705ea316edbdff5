"""Rows of your own tables: which column is the photo, which the caption; rows become records."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefixcap.datasets.photos import find_image_folder
from prefixcap.datasets.records import CaptionRecord, clean_caption
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
SPLIT_COLUMNS = ("split",)
ID_COLUMNS = ("image_id", "id")
DEFAULT_SPLIT = "train"  # of tables without a split column


@dataclass(frozen=True)
class Columns:
    """Names of the columns of one table; `captions` are several for caption_0, caption_1, ..."""

    image: str
    captions: tuple[str, ...]
    split: str | None
    image_id: str | None


def choose_columns(names: Sequence[str], source: Path) -> Columns:
    """The columns of a table that hold photo, captions, split and id.

    Raises:
        InputError: no column has one of the names for photo or caption.
    """
    image = _first(IMAGE_COLUMNS, names)
    caption = _first(CAPTION_COLUMNS, names)
    numbered = tuple(sorted(name for name in names if name.lower().startswith("caption_")))
    captions = (caption,) if caption is not None else numbered
    if image is None or not captions:
        raise InputError(
            f"{source}: columns {', '.join(map(str, names)) or 'none'}; expected one for the photo "
            f"({', '.join(IMAGE_COLUMNS)}) and one for the caption ({', '.join(CAPTION_COLUMNS)}). "
            "Rename yours."
        )
    return Columns(image, captions, _first(SPLIT_COLUMNS, names), _first(ID_COLUMNS, names))


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
        InputError: a row without a photo's name, a caption that is no text, or no photos found.
    """
    grouped: dict[tuple[str, str], list[str]] = {}
    ids: dict[str, str] = {}
    for number, row in rows:
        where = f"{source}, row {number}"
        name = row.get(columns.image)
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{where}: no photo in column {columns.image}. Mend that row.")
        name = name.strip()
        texts = [
            text for column in columns.captions for text in captions_in(row.get(column), where)
        ]
        grouped.setdefault((name, split_in(row, columns)), []).extend(texts)
        if columns.image_id is not None and row.get(columns.image_id) is not None:
            ids.setdefault(name, str(row[columns.image_id]))
    if not grouped:
        raise InputError(f"{source}: no rows. Give a table with a photo and a caption in each row.")
    folder = find_image_folder(
        list(dict.fromkeys(name for name, _ in grouped)), source.parent, images
    )
    return [
        CaptionRecord(ids.get(name, name), folder / name, tuple(captions), split)
        for (name, split), captions in grouped.items()
    ]


def split_in(row: Mapping[str, Any], columns: Columns) -> str:
    """Split of a row, `DEFAULT_SPLIT` where the table has no such column or the cell is empty."""
    return str(row.get(columns.split) or DEFAULT_SPLIT) if columns.split else DEFAULT_SPLIT


def _first(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    """The table's name of the first wanted column that it has, capitals ignored."""
    by_lower = {name.lower().strip(): name for name in reversed(names)}
    return next((by_lower[name] for name in wanted if name in by_lower), None)
