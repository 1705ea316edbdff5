"""The scores file: its numbers are those of `metrics`, and it can be read back to compare."""

import json
from dataclasses import replace

import numpy as np
import pytest

from prefixcap.errors import InputError
from prefixcap.metrics import interval, score
from prefixcap.score_sheet import (
    Scoring,
    mean_of_known,
    read_sheet,
    references_digest,
    score_sheet,
    scored_records,
    write_sheet,
)
from tests.tiny_split import GOOD, REFERENCES, records

NOVEL = ["The man rides a horse .", "nothing like it"]


def test_scores_and_intervals_are_those_of_metrics():
    facts = score_sheet(GOOD, records(), Scoring(seed=3)).facts
    expected = score(GOOD, REFERENCES)
    assert facts["scores"] == expected.corpus
    ends = interval(expected.statistics["CIDEr"], seed=3)
    assert facts["intervals"]["CIDEr"] == [ends.low, ends.high]
    assert ends != interval(expected.statistics["CIDEr"], seed=0)
    assert (facts["images"], facts["tokenizer"], facts["domains"]) == (6, "ptb", {})


def test_domains_share_the_frequencies_of_the_whole_split():
    facts = score_sheet(GOOD, records(domain=True)).facts
    domains = facts["domains"]
    assert {name: part["images"] for name, part in domains.items()} == {
        "in-domain": 3,
        "out-domain": 3,
    }
    ciders = score(GOOD, REFERENCES).per_image["CIDEr"]
    inside = np.mean([ciders[key] for key in ("1", "2", "3")])
    assert domains["in-domain"]["scores"]["CIDEr"] == pytest.approx(inside, abs=1e-12)
    parts = [part["scores"]["CIDEr"] for part in domains.values()]
    assert facts["scores"]["CIDEr"] == pytest.approx(np.mean(parts), abs=1e-12)


def test_bleu_of_a_domain_is_that_of_its_images_alone():
    domains = score_sheet(GOOD, records(domain=True)).facts["domains"]
    part = [key for key in REFERENCES if int(key) <= 3]
    alone = score({key: GOOD[key] for key in part}, {key: REFERENCES[key] for key in part})
    for order in range(1, 5):
        name = f"BLEU-{order}"
        assert domains["in-domain"]["scores"][name] == pytest.approx(alone.corpus[name], abs=1e-12)


def test_only_images_with_caption_and_references_are_scored():
    fewer = {key: text for key, text in GOOD.items() if key != "2"}
    sheet = score_sheet(fewer, records())
    assert list(sheet.captions) == ["1", "3", "4", "5", "6"]
    with pytest.raises(InputError, match="no photo"):
        score_sheet({"77": "x"}, records())


def test_novelty_is_told_from_the_tokens_of_training_captions():
    captions = {**GOOD, "3": "the man rides a horse"}
    assert score_sheet(captions, records()).facts["diversity"]["novel"] is None
    spread = score_sheet(captions, records(), training=NOVEL).facts["diversity"]
    assert spread["novel"] == pytest.approx(5 / 6)


def test_a_sheet_read_back_resamples_to_the_same_intervals(tmp_path):
    metrics = ("bleu", "rouge", "cider")
    sheet = score_sheet(GOOD, records(), Scoring(metrics))
    write_sheet(tmp_path / "s.json", sheet)
    again = read_sheet(tmp_path / "s.json")
    assert again.captions == GOOD
    assert again.facts == json.loads(json.dumps(sheet.facts))
    for name, statistic in sheet.statistics.items():
        np.testing.assert_array_equal(again.statistics[name].per_image, statistic.per_image)
        assert again.statistics[name].corpus == pytest.approx(statistic.corpus, abs=1e-15)
        assert interval(again.statistics[name]) == interval(statistic)


def test_per_image_values_stand_beside_their_captions(tmp_path):
    write_sheet(tmp_path / "s.json", score_sheet(GOOD, records()))
    rows = json.loads((tmp_path / "s.json").read_text())["per_image"]
    ciders = score(GOOD, REFERENCES).per_image["CIDEr"]
    assert {row["image_id"]: row["scores"]["CIDEr"] for row in rows} == ciders


def test_references_are_told_apart_but_not_their_order():
    digest = references_digest(records())
    assert references_digest(records()[::-1]) == digest
    assert references_digest(records()[1:]) != digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format_version": 99}, "format 99"),
        ({"scores": {"CIDEr": 1.0, "SPICE": 0.5}}, "damaged"),
        ({"per_image": [{"image_id": "1"}]}, "damaged"),
    ],
)
def test_a_damaged_or_newer_file_is_refused(tmp_path, change, said):
    path = tmp_path / "s.json"
    write_sheet(path, score_sheet(GOOD, records()))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=said):
        read_sheet(path)


def test_a_captions_file_is_no_scores_file(tmp_path):
    (tmp_path / "c.json").write_text('[{"image_id": 1, "caption": "x"}]')
    with pytest.raises(InputError, match="no scores file"):
        read_sheet(tmp_path / "c.json")


def test_a_photo_that_was_not_read_counts_in_no_score_and_reads_back(tmp_path):
    values = np.array([0.5, np.nan, 0.7, 0.9, np.nan, 0.1])
    photo = {"CLIPScore": mean_of_known(values)}
    sheet = score_sheet(GOOD, records(domain=True), Scoring(("cider",)), by_photo=photo)
    assert sheet.facts["scores"]["CLIPScore"] == pytest.approx(0.55)
    assert sheet.facts["domains"]["in-domain"]["scores"]["CLIPScore"] == pytest.approx(0.6)
    write_sheet(tmp_path / "s.json", sheet)
    again = read_sheet(tmp_path / "s.json").statistics["CLIPScore"]
    np.testing.assert_array_equal(again.per_image, values)
    assert again.corpus == pytest.approx(0.55)


def test_without_references_only_scores_by_photo_are_left():
    bare = [replace(record, captions=()) for record in records()]
    photo = {"CLIPScore": mean_of_known(np.linspace(0, 1, 6))}
    sheet = score_sheet(GOOD, bare, Scoring(("cider",)), by_photo=photo)
    assert sheet.facts["scores"] == {"CLIPScore": pytest.approx(0.5)}
    assert sheet.facts["images"] == 6


def test_records_of_a_part_without_references_are_not_scored():
    some = [replace(records()[0], captions=()), *records()[1:]]
    assert [record.image_id for record in scored_records(GOOD, some)] == list("23456")
    with pytest.raises(InputError, match="both a caption and references"):
        scored_records({"1": "a dog"}, some)
