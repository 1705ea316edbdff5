"""Annotation files: JSON and text read whole, checked for shape, errors that end the search."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefixcap.datasets.records import Remark
from prefixcap.errors import InputError

_LAST_BYTES = 4096  # of a table, in which its last row ends
_DOCUMENTS = frozenset(("readme", "license", "licence", "copying", "notice", "changelog"))


def is_document(name: str) -> bool:
    """True for the name of a text about a dataset, such as README.txt: it holds no captions."""
    return name.partition(".")[0].lower() in _DOCUMENTS


def read_text(path: Path) -> str:
    """Text of a UTF-8 file, a byte order mark removed.

    Raises:
        InputError: `path` is not a file, or not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file. Give the path of the published file.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 (byte {error.start}). Captions are published as UTF-8: convert it."
        ) from error


def unended(path: Path) -> list[Remark]:
    """A remark where the last row of a table has no line end; a file cut in a cell looks like it.

    Its cells may be all there, so that nothing else shows that the last is half a caption.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LAST_BYTES))
        end = file.read()
    if not end or end.endswith((b"\n", b"\r")):
        return []
    row = end.rpartition(b"\n")[2].decode("utf-8", errors="replace")
    advice = "Was the file cut off? Look at that row; its caption may be half"
    return [Remark("last rows without a line end", 1, (f"{row[-60:]!a}",), advice)]


def read_json(path: Path) -> Any:
    """Value of a JSON file.

    Raises:
        InputError: no such file, or the JSON breaks off.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: not whole JSON, it breaks at character {error.pos} of {len(text)} "
            f"({error.msg}). The file is cut off or another format: download it again."
        ) from error


def read_object(path: Path, keys: Iterable[str], kind: str) -> dict[str, Any]:
    """The JSON object in `path`, which has all of `keys`; `kind` names the expected file.

    Raises:
        InputError: not JSON, not an object, or another dataset's file.
    """
    value = read_json(path)
    found = sorted(value) if isinstance(value, dict) else type(value).__name__
    if not isinstance(value, dict) or not set(keys) <= set(value):
        raise InputError(
            f"{path}: not {kind}, which is an object with {', '.join(keys)}; found {found}. "
            "Give that dataset's annotation file."
        )
    return value


def field(entry: Any, name: str, kinds: type | tuple[type, ...], where: str) -> Any:
    """Value of `name` in a JSON object of an annotation file.

    Raises:
        InputError: `entry` is no object, lacks the key, or holds another type there.
    """
    if not isinstance(entry, dict) or name not in entry:
        raise InputError(f'{where}: "{name}" is missing in {str(entry)[:80]!r}. Wrong dataset?')
    value = entry[name]
    if not isinstance(value, kinds):
        raise InputError(f'{where}: "{name}" is {value!r:.80}, of the wrong type. Wrong dataset?')
    return value
