"""Two score sheets: tested as `metrics.compare` does, and refused where they cannot be."""

from dataclasses import replace

import numpy as np
import pytest

from prefixcap.comparison import compare_sheets
from prefixcap.errors import InputError
from prefixcap.metrics import compare, score
from prefixcap.score_sheet import (
    ScoreSheet,
    Scoring,
    mean_of_known,
    read_sheet,
    score_sheet,
    write_sheet,
)
from tests.tiny_split import GOOD, POOR, REFERENCES, records


def sheet(captions: dict[str, str], *metrics: str, tokenizer: str = "ptb") -> ScoreSheet:
    """Sheet of some captions."""
    return score_sheet(captions, records(), Scoring(metrics or ("bleu", "cider"), tokenizer))


def test_tests_are_those_of_metrics_in_whatever_order_the_images_come(tmp_path):
    backwards = dict(reversed(POOR.items()))
    reordered = score_sheet(backwards, records()[::-1], Scoring(("bleu", "cider")))
    write_sheet(tmp_path / "s.json", reordered)
    found = compare_sheets(sheet(GOOD), read_sheet(tmp_path / "s.json"), seed=2)
    good, poor = (score(one, REFERENCES, ("bleu", "cider")).statistics for one in (GOOD, POOR))
    for name, test in found.tests.items():
        expected = compare(good[name], poor[name], seed=2)
        assert test.difference == pytest.approx(expected.difference, abs=1e-12)
        assert test.p_value == expected.p_value
        assert found.scores[name] == pytest.approx((good[name].corpus, poor[name].corpus))
    assert set(found.tests) == {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr"}


def test_images_that_differ_most_come_first():
    found = compare_sheets(sheet(GOOD), sheet(POOR), shown=4)
    ciders = [score(one, REFERENCES, ("cider",)).per_image["CIDEr"] for one in (GOOD, POOR)]
    expected = sorted(REFERENCES, key=lambda key: -abs(ciders[0][key] - ciders[1][key]))[:4]
    assert [one.image_id for one in found.disagreements] == expected
    first = found.disagreements[0]
    assert first.captions == (GOOD[first.image_id], POOR[first.image_id])
    assert first.values == (ciders[0][first.image_id], ciders[1][first.image_id])
    assert found.ranked_by == "CIDEr"


def test_the_same_captions_do_not_differ():
    found = compare_sheets(sheet(GOOD), sheet(GOOD))
    assert found.disagreements == []
    assert all((test.difference, test.p_value) == (0, 1) for test in found.tests.values())


def test_only_scores_that_both_have_are_compared():
    found = compare_sheets(sheet(GOOD, "rouge", "cider"), sheet(POOR, "rouge", "bleu"))
    assert (list(found.tests), found.ranked_by) == (["ROUGE-L"], "ROUGE-L")


def test_what_cannot_be_compared_is_refused_with_the_reason():
    whole, fewer = sheet(GOOD), sheet({key: GOOD[key] for key in list(GOOD)[:4]})
    others = [replace(one, captions=(*one.captions, "Another.")) for one in records()]
    cases = {
        "tokenizer ptb against none": sheet(GOOD, tokenizer="none"),
        r"2 images only in the first \(5, 6\)": fewer,
        "other reference captions": score_sheet(GOOD, others, Scoring(("bleu", "cider"))),
        "CIDEr scored in the first, ROUGE-L in the second": sheet(GOOD, "rouge"),
    }
    for reason, second in cases.items():
        with pytest.raises(InputError, match=reason):
            compare_sheets(whole, second)


def test_scores_by_another_clip_or_other_frequencies_are_left_out_and_why():
    photo = {"CLIPScore": mean_of_known(np.linspace(0, 1, 6))}
    first, second = (
        score_sheet(texts, records(), Scoring(("bleu", "cider")), by_photo=photo)
        for texts in (GOOD, POOR)
    )
    first.facts["clip"], second.facts["clip"] = {"model": "a"}, {"model": "b"}
    found = compare_sheets(first, second)
    assert set(found.left_out) == {"CLIPScore"}
    assert "'a'" in found.left_out["CLIPScore"]
    assert "CIDEr" in found.tests and "CLIPScore" not in found.tests
    second.facts["clip"], second.facts["frequencies"] = first.facts["clip"], "0123"
    found = compare_sheets(first, second)
    assert set(found.left_out) == {"CIDEr"}
    assert found.ranked_by == "CLIPScore"


def test_an_image_without_a_value_is_no_disagreement():
    values = np.array([0.5, np.nan, 0.7, 0.9, 0.2, 0.1])
    sheets = [
        score_sheet(GOOD, records(), Scoring(()), by_photo={"CLIPScore": mean_of_known(one)})
        for one in (values, values * 0.5)
    ]
    found = compare_sheets(*sheets)
    assert [one.image_id for one in found.disagreements] == ["4", "3", "1", "5", "6"]
