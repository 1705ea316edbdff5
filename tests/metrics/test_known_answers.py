"""Scores equal those of the COCO caption evaluation code on every published case at hand."""

import itertools

import pytest

from prefixcap.metrics import score
from tests.metrics.truth import known_answers, read_lines, truth_folder

TOLERANCE = 1e-9
METEOR_TOLERANCE = 1e-6
CASES = known_answers()
if not CASES:
    pytest.skip(
        f"no expected.json in {truth_folder()}; set PREFIXCAP_METRIC_TRUTH to the folder",
        allow_module_level=True,
    )


def captions(name: str) -> tuple[dict, dict]:
    """Candidates and references of a case by (case, row)."""
    rows = read_lines(truth_folder() / f"{name}.jsonl")
    candidates = {(name, place): row["candidate"] for place, row in enumerate(rows)}
    return candidates, {(name, place): row["references"] for place, row in enumerate(rows)}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest):
    """Known answers and our scores of one case."""
    return CASES[request.param], score(*captions(request.param))


@pytest.fixture(scope="module")
def meteor():
    """METEOR of all cases, in one run of its program."""
    candidates, references = {}, {}
    for name in CASES:
        ours, theirs = captions(name)
        candidates |= ours
        references |= theirs
    scores = score(candidates, references, ["meteor"])
    if "meteor" in scores.not_scored:
        pytest.skip(scores.not_scored["meteor"])
    return scores


def test_all_images_are_scored(case):
    expected, scores = case
    assert scores.images == expected["images"]


def test_corpus_scores_equal_the_coco_code(case):
    expected, scores = case
    theirs = {name: value for name, value in expected["scores"].items() if name in scores.corpus}
    ours = {name: scores.corpus[name] for name in theirs}
    assert ours == pytest.approx(theirs, rel=0, abs=TOLERANCE)
    assert expected["scores"].keys() - theirs.keys() <= {"METEOR", "SPICE"}


def test_per_image_cider_equals_the_coco_code(case):
    expected, scores = case
    theirs = expected["first_20_cider"]
    ours = list(itertools.islice(scores.per_image["CIDEr"].values(), len(theirs)))
    assert ours == pytest.approx(theirs, rel=0, abs=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_meteor_equals_the_coco_code(name, meteor):
    expected = CASES[name]
    rows = [place for place, key in enumerate(meteor.per_image["METEOR"]) if key[0] == name]
    statistic = meteor.statistics["METEOR"]
    corpus = float(statistic.value(statistic.summands[rows].sum(0)))
    assert corpus == pytest.approx(expected["scores"]["METEOR"], rel=0, abs=METEOR_TOLERANCE)
    theirs = expected["first_20_meteor"]
    ours = statistic.per_image[rows[: len(theirs)]].tolist()
    assert ours == pytest.approx(theirs, rel=0, abs=METEOR_TOLERANCE)
