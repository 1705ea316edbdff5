"""A Hugging Face dataset by name or folder, through the `datasets` library; extra `datasets`.

A photo in it has the path `hf-dataset/NAME/SPLIT/ROW`, NAME percent-encoded ("org%2Fname").
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from prefixcap.datasets.columns import (
    IMAGE_COLUMNS,
    choose_columns,
    merge_rows,
    row_captions,
    row_id,
)
from prefixcap.datasets.records import CaptionRecord
from prefixcap.errors import InputError, MissingExtraError
from prefixcap.images import UnreadableImage

ROOT = "hf-dataset"


def read(path: Path, split: str | None = None, images: Path | None = None) -> list[CaptionRecord]:
    """Records of a dataset with a photo and a caption column, one a row.

    Args:
        path: its name on the hub ("org/name"), or a folder that `load_dataset` reads.
        split: one of its splits; None for all.
        images: not used, the photos are in the dataset.

    Raises:
        MissingExtraError: the `datasets` library is not installed.
        InputError: no such dataset or split, or no such columns.
    """
    name = Path(path).as_posix()
    splits = _load(name)
    if split is not None and split not in splits:
        raise InputError(
            f'{name}: no split "{split}". Ask for one of those it has: {", ".join(splits)}.'
        )
    return [
        record
        for one in splits
        if split in (None, one)
        for record in _read_split(splits[one], name, one)
    ]


def split_path(path: Path) -> tuple[str, str, int] | None:
    """Dataset, split and row of a path of the form `hf-dataset/NAME/SPLIT/ROW`, else None."""
    parts = path.parts
    if len(parts) == 4 and parts[0] == ROOT and parts[3].isdigit():
        return unquote(parts[1]), unquote(parts[2]), int(parts[3])
    return None


def read_photo(name: str, split: str, row: int) -> bytes:
    """Encoded picture of one row.

    Raises:
        MissingExtraError, InputError: as in `read`.
        UnreadableImage: no picture in that row.
    """
    rows = _load(name)[split]
    value = rows[row][choose_columns(rows.column_names, Path(name)).image]
    content = value.get("bytes") if isinstance(value, dict) else None
    if content is None and isinstance(value, dict) and value.get("path"):
        return Path(value["path"]).read_bytes()
    if content is None:
        raise UnreadableImage(f"{name}, {split}, row {row}", "no picture in it")
    return content


@lru_cache(maxsize=4)
def _load(name: str) -> dict[str, Any]:
    """Splits of a dataset, its pictures left encoded."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "datasets", f'reading "{name}"') from error
    try:
        loaded = datasets.load_from_disk(name) if _is_saved(name) else datasets.load_dataset(name)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name}: cannot be loaded ({str(error).splitlines()[0]}). Give a name on the hub, "
            "with network access or the dataset in the cache, or a folder."
        ) from error
    splits = loaded if isinstance(loaded, dict) else {"train": loaded}
    return {split: _encoded(rows, datasets.Image(decode=False)) for split, rows in splits.items()}


def _is_saved(name: str) -> bool:
    """True for a folder written by `save_to_disk`."""
    return any(
        os.path.isfile(os.path.join(name, file)) for file in ("dataset_dict.json", "state.json")
    )


def _encoded(rows: Any, image: Any) -> Any:
    """The dataset with its photo column as {"bytes", "path"} instead of decoded pictures."""
    names = [name for name in rows.column_names if name.lower() in IMAGE_COLUMNS]
    for name in names:
        if type(rows.features[name]) is type(image):
            rows = rows.cast_column(name, image)
    return rows


def _read_split(rows: Any, name: str, split: str) -> list[CaptionRecord]:
    columns = choose_columns(rows.column_names, Path(name))
    kept = [*columns.captions, *([columns.image_id] if columns.image_id else [])]
    folder = Path(ROOT) / quote(name, safe="") / quote(split, safe="")
    records = [
        CaptionRecord(
            row_id(row, columns) or f"{split}/{number}",
            folder / str(number),
            tuple(row_captions(row, columns, f"{name}, {split}, row {number}")),
            split,
        )
        for number, row in enumerate(rows.select_columns(kept))
    ]
    return merge_rows(records, _picture, Path(name))


def _picture(path: Path) -> bytes:
    """Encoded picture of a record; b"" where its row has none."""
    try:
        return read_photo(*split_path(path))
    except UnreadableImage:
        return b""
