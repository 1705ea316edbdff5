"""Your own captions as parquet, with paths of photos or the photos themselves; extra `parquet`.

A photo inside a parquet file has the path `FILE.parquet/ROW`, rows counted from 0.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prefixcap.datasets.columns import (
    Columns,
    choose_columns,
    merge_rows,
    photo_column,
    row_captions,
    row_id,
    split_in,
    to_records,
)
from prefixcap.datasets.records import CaptionRecord, refuse_shared_ids, select_split
from prefixcap.datasets.tables import table_in
from prefixcap.errors import InputError, MissingExtraError
from prefixcap.images import UnreadableImage

_PHOTO_COLUMNS = ("jpg", "jpeg", "png", "webp")  # as img2dataset names the bytes


def has_pyarrow() -> bool:
    """True where the extra `parquet` is installed."""
    return find_spec("pyarrow") is not None


def read(path: Path, split: str | None = None, images: Path | None = None) -> list[CaptionRecord]:
    """Records of a parquet file, or of all parquet files of a folder.

    The photo column holds names, relative to `images` or to the file; or encoded pictures, as bytes
    or as {"bytes", "path"} (as Hugging Face writes them). Encoded pictures are one record a row;
    rows of one id are one record, whose photo is that of the first.

    Raises:
        MissingExtraError: pyarrow is not installed.
        InputError: not parquet or a damaged one, no such column, one id of two photos, or no photos
            found.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    files = files or [table_in(path, ".parquet")]
    rows = [record for file in files for record in _read_file(file, images)]
    inside = [row for row in rows if row.path.parent.suffix == ".parquet"]
    named = [row for row in rows if row.path.parent.suffix != ".parquet"]
    refuse_shared_ids(named, path)
    return select_split([*merge_rows(inside, _picture, path), *named], split, path)


def read_columns(path: Path, wanted: Sequence[str]) -> tuple[list[str], Iterator[dict[str, Any]]]:
    """Names of all columns of a parquet file, and its rows with the `wanted` ones, None if absent.

    Raises:
        MissingExtraError: pyarrow is not installed.
        InputError: not a whole parquet file.
    """
    file = _open(path)
    names = list(file.schema_arrow.names)
    return names, _rows(path, file, [name for name in wanted if name in names], wanted)


def split_path(path: Path) -> tuple[Path, int] | None:
    """File and row of a path of the form `FILE.parquet/ROW`; None for any other path."""
    if path.parent.suffix == ".parquet" and path.name.isdigit() and path.parent.is_file():
        return path.parent, int(path.name)
    return None


def read_photo(path: Path, row: int) -> bytes:
    """Encoded picture in one row; the row group is kept for the next call.

    Raises:
        MissingExtraError: pyarrow is not installed.
        UnreadableImage: no picture in it.
        InputError: no such row.
    """
    file = _open(path)
    column = _photo_column(list(file.schema_arrow.names), path)
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if row < size:
            value = _column_of_group(path, path.stat().st_mtime_ns, group, column)[row].as_py()
            content = value.get("bytes") if isinstance(value, dict) else value
            if isinstance(content, bytes):
                return content
            raise UnreadableImage(f"{path}, row {row}", f"no picture in column {column}")
        row -= size
    raise InputError(f"{path}: has fewer rows than asked for. Read the dataset again.")


def _open(path: Path) -> Any:
    """pyarrow's reader of one file."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", f"reading {path.name}") from error
    with _damage_named(path):
        return parquet.ParquetFile(path)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Inside, what pyarrow says of a damaged file is an InputError with the file's name."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"{path}: not a whole parquet file ({reason:.80}). Write or download it again."
        ) from error


def _rows(
    path: Path, file: Any, present: Sequence[str], wanted: Sequence[str]
) -> Iterator[dict[str, Any]]:
    empty = dict.fromkeys(wanted)
    batches = file.iter_batches(columns=list(present))
    while True:
        with _damage_named(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield from ({**empty, **row} for row in batch.to_pylist())


@lru_cache(maxsize=4)
def _column_of_group(path: Path, changed_ns: int, group: int, column: str) -> Any:
    """One column of one row group; the time of change is part of the key of the cache."""
    file = _open(path)
    with _damage_named(path):
        return file.read_row_group(group, columns=[column]).column(column)


def _photo_column(names: list[str], path: Path) -> str:
    """Column of the encoded pictures: img2dataset's, else the photo column of any table."""
    found = next((name for name in _PHOTO_COLUMNS if name in names), None) or photo_column(names)
    if found is None:
        raise InputError(f"{path}: has no column of photos. Read the dataset again: it changed.")
    return found


def _read_file(path: Path, images: Path | None) -> list[CaptionRecord]:
    names = list(_open(path).schema_arrow.names)
    columns = choose_columns(names, path)
    wanted = [columns.image, *columns.captions, columns.split, columns.image_id]
    _, rows = read_columns(path, [name for name in wanted if name is not None])
    if _holds_pictures(path, columns.image):
        return _with_pictures(path, rows, columns)
    return to_records(enumerate(rows), columns, path, images)


def _with_pictures(
    path: Path, rows: Iterator[dict[str, Any]], columns: Columns
) -> list[CaptionRecord]:
    """One record a row."""
    return [
        CaptionRecord(
            row_id(row, columns) or f"{path.parent.name}/{path.name}/{number}",
            path / str(number),
            tuple(row_captions(row, columns, f"{path}, row {number}")),
            split_in(row, columns),
        )
        for number, row in enumerate(rows)
    ]


def _picture(path: Path) -> bytes:
    """Encoded picture of a record; b"" where its row has none."""
    try:
        return read_photo(path.parent, int(path.name))
    except UnreadableImage:
        return b""


def _holds_pictures(path: Path, column: str) -> bool:
    """True where the photo column is bytes or a struct with bytes, not a name."""
    import pyarrow

    kind = _open(path).schema_arrow.field(column).type
    return (
        pyarrow.types.is_struct(kind)
        or pyarrow.types.is_binary(kind)
        or pyarrow.types.is_large_binary(kind)
    )
