"""Your own captions as CSV, TSV or JSON lines, a photo and a caption in each row."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefixcap.datasets.annotations import read_text, unended
from prefixcap.datasets.columns import choose_columns, to_records
from prefixcap.datasets.records import CaptionRecord, Remark, select_split
from prefixcap.errors import InputError


def read_csv(
    path: Path, split: str | None = None, images: Path | None = None
) -> list[CaptionRecord]:
    """Records of a CSV file with a header; several rows of one photo become one record.

    Args:
        path: the file, or a folder with one `.csv` in it.
        split: a value of the `split` column; without that column all rows are "train".
        images: folder that the names are relative to; else the file's folder or one in it.

    Raises:
        InputError: no such column or two of one name, a row with too few or too many cells, one id
            of two photos, or no photos found.
    """
    file = table_in(path, ".csv")
    return _read_cells(file, csv.reader(_lines(file), strict=True), path, split, images)


def read_tsv(
    path: Path, split: str | None = None, images: Path | None = None
) -> list[CaptionRecord]:
    """Records of a TSV file with a header; quotes are part of the captions. See `read_csv`."""
    file = table_in(path, ".tsv")
    cells = csv.reader(_lines(file), delimiter="\t", quoting=csv.QUOTE_NONE)
    return _read_cells(file, cells, path, split, images)


def read_jsonl(
    path: Path, split: str | None = None, images: Path | None = None
) -> list[CaptionRecord]:
    """Records of JSON lines: objects with a photo and `caption` (text) or `captions` (list).

    Arguments and errors as in `read_csv`.
    """
    file = table_in(path, ".jsonl")
    rows = list(_objects(file))
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    records = to_records(rows, choose_columns(names, file), file, images)
    return select_split(records, split, path)


def csv_remarks(path: Path, split: str | None = None, images: Path | None = None) -> list[Remark]:
    """Whether the CSV file ends in the middle of a row; arguments and errors as in `read_csv`."""
    return unended(table_in(path, ".csv"))


def tsv_remarks(path: Path, split: str | None = None, images: Path | None = None) -> list[Remark]:
    """Whether the TSV file ends in the middle of a row; arguments and errors as in `read_tsv`."""
    return unended(table_in(path, ".tsv"))


def table_in(path: Path, suffix: str) -> Path:
    """`path` itself, or the only file with `suffix` in the folder `path`.

    Raises:
        InputError: the folder has none, or several.
    """
    if path.is_file():
        return path
    files = sorted(path.glob(f"*{suffix}"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise InputError(f"{path}: expected one {suffix} file in it, found {names}. Give the file.")
    return files[0]


def _lines(file: Path) -> list[str]:
    """Lines with their ends, split at line feeds only: U+2028 is no line end in a table."""
    return [f"{line}\n" for line in read_text(file).split("\n")]


def _read_cells(
    file: Path, cells: Iterator[list[str]], source: Path, split: str | None, images: Path | None
) -> list[CaptionRecord]:
    """Records of rows of cells, of which the first is the header."""
    try:
        rows = [(number, row) for number, row in enumerate(cells, start=1) if any(row)]
    except csv.Error as error:
        raise InputError(
            f"{file}: not a whole table ({error}). Close the quotes, or write it again."
        ) from error
    if not rows:
        raise InputError(f"{file}: empty. Give a table with a header.")
    header = [name.strip() for name in rows[0][1]]
    columns = choose_columns(header, file)
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise InputError(
                f"{file}, row {number}: {len(row)} cells, the header has {len(header)}. The file "
                "is cut off, or a caption with a separator in it is not quoted: mend that row."
            )
    named = [(number, dict(zip(header, row, strict=True))) for number, row in rows[1:]]
    return select_split(to_records(named, columns, file, images), split, source)


def _objects(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line of a JSON lines file."""
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_Pairs)
        except ValueError as error:
            raise InputError(
                f"{file}, line {number}: not whole JSON ({error}). The file is cut off or not JSON "
                "lines: write it again."
            ) from error
        if not isinstance(value, dict):
            raise InputError(
                f"{file}, line {number}: a {type(value).__name__}, expected an object."
            )
        if value.twin:
            raise InputError(
                f'{file}, line {number}: "{value.twin}" is twice in one object. Give several '
                "captions as a list."
            )
        yield number, value


class _Pairs(dict[str, Any]):
    """A JSON object; `twin` is a key that is there twice, whose first value is lost, else ""."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        twins = (name for name in names if names.count(name) > 1)
        self.twin = next(twins, "") if len(self) < len(names) else ""
