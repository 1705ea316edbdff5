"""Conceptual Captions as published, and what img2dataset 1.47 leaves of it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prefixcap.datasets.parquet import has_pyarrow
from tests.datasets.conftest import jpeg, put_json, put_tar

LINKS = [
    ("a very typical bus station", "http://example.org/bus.jpg"),
    ("sierra looked stunning in this top", "https://example.org/top.jpg"),
    ("young confused girl standing in front of a wardrobe", "http://example.org/girl.jpg"),
    ("a very typical bus station", "http://example.org/other-bus.jpg"),
    ("caf\u00e9 on a corner", "http://example.org/caf%C3%A9.jpg"),
]
DEAD = {1: ("failed_to_download", "HTTP Error 404: Not Found"), 3: ("failed_to_resize", "corrupt")}


def put_tsv(path: Path) -> Path:
    """The published TSV: caption, tab, link; no header."""
    path.write_text("".join(f"{caption}\t{url}\n" for caption, url in LINKS), encoding="utf-8")
    return path


def attempts(start: int = 0) -> list[dict[str, Any]]:
    """Metadata of every link as img2dataset writes it; photos arrive in any order."""
    rows = []
    for row in (2, 0, 4, 3, 1):
        caption, url = LINKS[row]
        status, error = DEAD.get(row, ("success", None))
        rows.append(
            {
                "caption": caption,
                "url": url,
                "key": f"{start + row:09d}",
                "status": status,
                "error_message": error,
                "width": None if error else 48,
                "height": None if error else 48,
            }
        )
    return rows


def put_output(folder: Path, form: str = "webdataset", table: bool | None = None) -> Path:
    """A shard in one of img2dataset's forms: "webdataset", "files" or "parquet".

    With its parquet of attempts if `table`; for None, where pyarrow is installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = attempts()
    found = [row for row in rows if row["status"] == "success"]
    if form == "webdataset":
        files: dict[str, bytes] = {}
        for row in found:
            files[f"{row['key']}.jpg"] = photo(row)
            files[f"{row['key']}.txt"] = row["caption"].encode()
            files[f"{row['key']}.json"] = json.dumps(row, indent=4).encode()
        put_tar(folder / "00000.tar", files)
    elif form == "files":
        for row in found:
            put_json(folder / f"00000/{row['key']}.json", row)
            (folder / f"00000/{row['key']}.jpg").write_bytes(photo(row))
            (folder / f"00000/{row['key']}.txt").write_text(row["caption"], encoding="utf-8")
    else:
        rows = [{**row, "jpg": photo(row) if row in found else None} for row in rows]
    if form == "parquet" or (has_pyarrow() if table is None else table):
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")
    statuses = Counter(row["error_message"] or "success" for row in rows)
    statistics = {
        "count": len(rows),
        "successes": len(found),
        "failed_to_download": 1,
        "failed_to_resize": 1,
        "duration": 1.5,
        "status_dict": dict(statuses),
    }
    put_json(folder / "00000_stats.json", statistics)
    return folder


def photo(row: dict[str, Any]) -> bytes:
    """The photo behind a link."""
    return jpeg(int(row["key"]))
