"""Scores equal those of the COCO caption evaluation code on every published case at hand."""

import json
import os
from pathlib import Path

import pytest

from prefixcap.metrics import score

TOLERANCE = 1e-9
FIRST = {"first_20_cider": "CIDEr"}


def truth_folder() -> Path:
    """Folder of the known answers: PREFIXCAP_METRIC_TRUTH, else beside the other data."""
    repository = Path(__file__).resolve().parents[2]
    data = os.environ.get("PREFIXCAP_DATA") or repository / "../shared/data"
    return Path(os.environ.get("PREFIXCAP_METRIC_TRUTH") or Path(data) / "metric_ground_truth")


def known_answers() -> dict[str, dict]:
    """Cases of expected.json by name; none where the folder is absent."""
    path = truth_folder() / "expected.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_lines(path: Path) -> list[dict]:
    """Objects of a JSON-lines file."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines if line.strip()]


CASES = known_answers()
if not CASES:
    pytest.skip(
        f"no expected.json in {truth_folder()}; set PREFIXCAP_METRIC_TRUTH to the folder",
        allow_module_level=True,
    )


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest):
    """Known answers, captions and our scores of one case."""
    rows = read_lines(truth_folder() / f"{request.param}.jsonl")
    candidates = {place: row["candidate"] for place, row in enumerate(rows)}
    references = {place: row["references"] for place, row in enumerate(rows)}
    return CASES[request.param], score(candidates, references)


def test_all_images_are_scored(case):
    expected, scores = case
    assert scores.images == expected["images"]


def test_corpus_scores_equal_the_coco_code(case):
    expected, scores = case
    ours = {name: scores.corpus[name] for name in expected["scores"] if name in scores.corpus}
    theirs = {name: expected["scores"][name] for name in ours}
    assert ours == pytest.approx(theirs, rel=0, abs=TOLERANCE)
    assert {"BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr"} <= ours.keys()


def test_per_image_scores_equal_the_coco_code(case):
    expected, scores = case
    for key, name in FIRST.items():
        ours = list(scores.per_image[name].values())[: len(expected[key])]
        assert ours == pytest.approx(expected[key], rel=0, abs=TOLERANCE)
