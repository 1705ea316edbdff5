"""The folder of known answers, and its files."""

import json
import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def truth_folder() -> Path:
    """Folder of the known answers: PREFIXCAP_METRIC_TRUTH, else beside the other data."""
    named = os.environ.get("PREFIXCAP_METRIC_TRUTH")
    data = os.environ.get("PREFIXCAP_DATA") or REPOSITORY / "../shared/data"
    return Path(named) if named else Path(data) / "metric_ground_truth"


def known_answers() -> dict[str, dict]:
    """Cases of expected.json by name; none where the folder is absent."""
    path = truth_folder() / "expected.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def cases() -> list[str]:
    """Names of the cases."""
    return list(known_answers())


def read_lines(path: Path) -> list[dict]:
    """Objects of a JSON-lines file."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines if line.strip()]
