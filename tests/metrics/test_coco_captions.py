"""Scores of COCO's own captions equal what the COCO code gave them, once and for all."""

import json
import zipfile

import pytest

from prefixcap.metrics import score
from prefixcap.metrics.java import ProgramMissingError, find_in_pycocoevalcap

# The n val2014 images with the smallest ids; candidate: first caption in file order, references:
# the rest. By pycocoevalcap 1.2 with its Java tokenizer.
TABLE = {
    200: (0.6465766634519544, 0.17794615694762714, 0.4668150542452614, 0.9293994207847216),
    1000: (0.6421903570396841, 0.19742829238789206, 0.47711582959843113, 0.9228873955396488),
    5000: (0.6372360844529629, 0.19807928528185476, 0.47385525230849806, 0.901189923582801),
}
NAMES = ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr")


@pytest.fixture(scope="module")
def captions() -> dict[int, list[str]]:
    """Captions of each val2014 image, by ascending id, from the SPICE jar."""
    try:
        jar = find_in_pycocoevalcap("spice/spice-1.0.jar", "this test")
    except ProgramMissingError as error:
        pytest.skip(str(error))
    with zipfile.ZipFile(jar) as archive:
        file = json.loads(archive.read("coco/annotations/captions_val2014.json"))
    found: dict[int, list[str]] = {}
    for annotation in file["annotations"]:
        found.setdefault(annotation["image_id"], []).append(annotation["caption"])
    return dict(sorted(found.items()))


@pytest.mark.parametrize("images", TABLE)
def test_scores_equal_those_of_the_coco_code(images, captions):
    chosen = dict(list(captions.items())[:images])
    scores = score(
        {image: texts[0] for image, texts in chosen.items()},
        {image: texts[1:] for image, texts in chosen.items()},
    )
    ours = [scores.corpus[name] for name in NAMES]
    assert ours == pytest.approx(TABLE[images], rel=0, abs=1e-9)
