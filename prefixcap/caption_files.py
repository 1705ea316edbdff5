"""Files of captions that grow as a run goes and survive its death: jsonl, csv, parquet."""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Protocol, Self

from prefixcap import atomic
from prefixcap.errors import InputError, MissingExtraError

RECORD_SUFFIXES = (".jsonl", ".csv", ".parquet")
Record = dict[str, str | float]


class Format(Protocol):
    """How records become bytes, and back."""

    def encode(self, records: Iterable[Record]) -> bytes:
        """Bytes to append for `records`."""

    def decode(self, content: bytes) -> tuple[list[Record], int]:
        """Whole records in `content`, and the number of bytes that they take."""

    def beginning(self) -> bytes:
        """Bytes that a new file begins with."""


class JsonLines:
    """One JSON object a line."""

    def encode(self, records: Iterable[Record]) -> bytes:
        """Bytes to append for `records`."""
        return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records).encode()

    def decode(self, content: bytes) -> tuple[list[Record], int]:
        """Whole records in `content` and their bytes; a cut-off last line does not count.

        Raises:
            ValueError: another line is not an object.
        """
        records, good = [], 0
        for number, line in enumerate(content.splitlines(keepends=True), 1):
            record = _json_object(line)
            if record is None and good + len(line) < len(content):
                raise ValueError(f"line {number} is not a record")
            if record is None:
                break
            records.append(record)
            good += len(line)
        return records, good

    def beginning(self) -> bytes:
        """Bytes that a new file begins with: none."""
        return b""


@dataclass(frozen=True)
class Table:
    """Comma-separated values under a line of column names (RFC 4180, but with bare line feeds).

    Every text is in quotes: Python's csv would leave a lone carriage return bare, then end a line
    there on reading.
    """

    columns: tuple[str, ...]

    def encode(self, records: Iterable[Record]) -> bytes:
        """Bytes to append for `records`."""
        text = io.StringIO()
        writer = csv.DictWriter(
            text, self.columns, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC
        )
        writer.writerows(records)
        return text.getvalue().encode()

    def decode(self, content: bytes) -> tuple[list[Record], int]:
        """Whole records in `content` and their bytes; a cut-off last one does not count.

        Raises:
            ValueError: the columns are others.
        """
        good = _whole_rows(content)
        rows = list(csv.DictReader(io.StringIO(content[:good].decode(), newline="")))
        if good and content[:good].partition(b"\n")[0] != self.beginning().strip():
            raise ValueError(f"its columns are not {','.join(self.columns)}")
        return [dict(row) for row in rows], good

    def beginning(self) -> bytes:
        """Bytes that a new file begins with: the names of the columns."""
        return (",".join(self.columns) + "\n").encode()


class Journal:
    """Records in a file that only grows, whole after every `append`, with one writer at a time.

    Args:
        path: the file; made if it is not there. What a kill cut off at its end is removed.
        format: of its records.

    Raises:
        InputError: the file cannot be written, is in use, or holds something else.
    """

    def __init__(self, path: Path, format: Format) -> None:
        self.path = path
        self._format = format
        try:
            self._file: IO[bytes] = _opened_for_appending(path)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror}). Choose another output"
            ) from error
        _lock(self._file, path)
        self.records = self._recover()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def append(self, records: Sequence[Record]) -> None:
        """Add `records`, on the disk when this returns; after an error the file is as before.

        Raises:
            OSError: the disk is full, or the file cannot be written any more.
        """
        content = self._format.encode(records)
        if self._length == 0:
            content = self._format.beginning() + content
        try:
            self._write(content)
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._length)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._length += len(content)

    def _write(self, content: bytes) -> None:
        """All of `content` at the end of the file, and onto the disk."""
        while content:
            content = content[self._file.write(content) :]
        os.fsync(self._file.fileno())

    def _recover(self) -> list[Record]:
        """Records of an earlier run; what follows the last whole one is cut away."""
        content = self.path.read_bytes()
        try:
            records, self._length = self._format.decode(content)
        except ValueError as error:
            self._file.close()
            raise InputError(
                f"{self.path}: {error}, so it cannot be continued. Choose another output, or "
                "write over it with --overwrite"
            ) from error
        if self._length < len(content):
            self._file.truncate(self._length)
        return records


class RecordFile:
    """The output of a run: records by their "path", in a .jsonl, .csv or .parquet file.

    A parquet file cannot grow, so its records wait in a journal `NAME.partial.jsonl` beside it
    until `finish`.

    Raises:
        InputError: see `Journal` and `check_record_path`.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path = path
        self._columns = columns
        self._is_parquet = path.suffix.lower() == ".parquet"
        check_record_path(path)  # a missing pyarrow is better said now than after the last photo
        self._journal = Journal(journal_path(path), record_format(path, columns))
        self.keys = {str(record["path"]) for record in self._journal.records}
        if self._is_parquet and path.exists() and not self.keys:
            self._take_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._journal.__exit__(*exception)

    def append(self, records: Sequence[Record]) -> None:
        """Add records; on the disk when this returns.

        Raises:
            OSError: the disk is full, or the file cannot be written any more.
        """
        if records:
            self._journal.append(records)
            self.keys |= {str(record["path"]) for record in records}

    def _take_back(self) -> None:
        """Put the records of a finished parquet file into the journal, to add to them."""
        try:
            self.append(_read_parquet(self.path))
        except InputError:
            self._journal.path.unlink()
            self._journal.__exit__()
            raise

    def finish(self) -> None:
        """Make the file complete: write the parquet file from its journal, and drop that.

        Raises:
            OSError: the disk is full; the journal is then as it was.
        """
        if not self._is_parquet:
            return
        records, _ = JsonLines().decode(self._journal.path.read_bytes())
        remove_torn(self.path)
        with atomic.replacing(self.path) as part:
            _write_parquet(records, self._columns, part)
        self._journal.path.unlink()


def remove_torn(path: Path) -> None:
    """Remove what `atomic.replacing` left beside `path` when it was killed."""
    for part in path.parent.glob(f".{escape(path.name)}.*.part"):
        part.unlink(missing_ok=True)


def check_record_path(path: Path) -> None:
    """Nothing, where records can be written under the name `path`.

    Raises:
        InputError: a folder, a suffix other than .jsonl, .csv and .parquet, or parquet without its
            extra.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file such as {path / 'captions.jsonl'}")
    if path.suffix.lower() not in RECORD_SUFFIXES:
        raise InputError(f"{path}: expected a name that ends in {', '.join(RECORD_SUFFIXES)}")
    if path.suffix.lower() == ".parquet":
        _check_parquet()


def record_format(path: Path, columns: tuple[str, ...]) -> Format:
    """Format of the file that grows while `path` is written."""
    return Table(columns) if path.suffix.lower() == ".csv" else JsonLines()


def journal_path(path: Path) -> Path:
    """File that grows while `path` is written: itself, but for parquet."""
    is_parquet = path.suffix.lower() == ".parquet"
    return path.with_name(f"{path.name}.partial.jsonl") if is_parquet else path


def _json_object(line: bytes) -> Record | None:
    """The object in a whole line, or None."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _whole_rows(content: bytes) -> int:
    """Bytes of `content` up to the last line feed that is outside of quotes."""
    good, place, quotes = 0, 0, 0
    for line in content.splitlines(keepends=True):
        place += len(line)
        quotes += line.count(b'"')
        if line.endswith(b"\n") and quotes % 2 == 0:
            good = place
    return good


def _opened_for_appending(path: Path) -> IO[bytes]:
    """Unbuffered file that writes at its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab", buffering=0)


def _lock(file: IO[bytes], path: Path) -> None:
    """Keep a second run off `file` until it is closed, where the system can.

    Raises:
        InputError: another run has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise InputError(
            f"{path}: another run is writing it. Wait for that one, or choose another output"
        ) from error
    except OSError:  # a file system without locks
        return


def _check_parquet() -> None:
    """Nothing, where pyarrow is installed.

    Raises:
        MissingExtraError: it is not.
    """
    if find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "parquet", "A parquet output")


def _read_parquet(path: Path) -> list[Record]:
    """Records of a parquet file.

    Raises:
        InputError: it is not one.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(
            f"{path}: is not a parquet file, so it cannot be continued. Choose another output, "
            "or write over it with --overwrite"
        ) from error


def _write_parquet(records: Sequence[Mapping], columns: tuple[str, ...], path: Path) -> None:
    """Write `records` as a parquet file: scores as float64, everything else as strings."""
    import pyarrow
    import pyarrow.parquet

    types = {True: pyarrow.float64(), False: pyarrow.string()}
    schema = pyarrow.schema([(name, types[name.startswith("score")]) for name in columns])
    table = pyarrow.Table.from_pylist(list(records), schema=schema)
    pyarrow.parquet.write_table(table, path)
