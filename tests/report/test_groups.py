"""What may stand in one table: the same images, references and tokenizer, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from prefixcap.report.groups import score_groups
from prefixcap.report.runs import Run
from prefixcap.score_sheet import ScoreSheet, Scoring, score_sheet
from tests.tiny_split import GOOD, POOR, records


def run(name: str, sheet: ScoreSheet, **facts) -> Run:
    """A run whose only scores are `sheet`, with other facts."""
    facts = sheet.facts | {"dataset": "flickr8k", "split": "dev"} | facts
    return Run(name, Path(name), "finished", sheets={"s": replace(sheet, facts=facts)})


@pytest.fixture(scope="module")
def good() -> ScoreSheet:
    return score_sheet(GOOD, records())


@pytest.fixture(scope="module")
def poor() -> ScoreSheet:
    return score_sheet(POOR, records())


def test_comparable_runs_share_a_group_best_first(good, poor):
    (group,) = score_groups([run("poor", poor), run("good", good)])
    assert [entry.name for entry in group.entries] == ["good", "poor"]
    assert (group.apart, group.title) == ("", "flickr8k dev, 6 images")


def test_other_images_references_or_tokens_stand_apart_with_the_reason(good, poor):
    fewer = score_sheet({key: GOOD[key] for key in "123"}, records())
    bare = score_sheet(GOOD, records(), Scoring(tokenizer="none"))
    groups = score_groups(
        [
            run("few", fewer),
            run("a", good),
            run("b", poor),
            run("bare", bare),
            run("other", good, references="other"),
        ]
    )
    assert [entry.name for entry in groups[0].entries] == ["a", "b"]
    reasons = {group.entries[0].name: group.apart for group in groups}
    assert reasons["few"] == "3 images scored, not 6"
    assert reasons["bare"] == "tokenizer none, not ptb"
    assert reasons["other"] == "the same images, but other reference captions"
    assert len({group.name for group in groups}) == 4
    assert {group.entries[0].name: group.title.split(", ")[1:] for group in groups} == {
        "a": ["6 images"],
        "few": ["3 images"],
        "bare": ["6 images", "tokenizer none"],
        "other": ["6 images", "other references"],
    }


def test_another_split_is_another_group_and_no_fault(good):
    groups = score_groups([run("a", good), run("b", good, split="test")])
    assert [(group.split, group.apart) for group in groups] == [("dev", ""), ("test", "")]


def test_papers_rows_stand_beside_only_if_as_many_images_were_scored(good):
    (group,) = score_groups([run("a", good, dataset="nocaps", split="val")])
    assert group.published == []
    assert {reason for _, reason in group.published_apart} == {
        "the paper scored 4,500 images, these are 6"
    }
    many = ScoreSheet(good.facts, {str(n): "a dog" for n in range(4500)}, good.statistics)
    (group,) = score_groups([run("a", many, dataset="nocaps", split="val")])
    assert "paper, transformer" in {row.title for row in group.published}
    (group,) = score_groups([run("a", many, dataset="nocaps", split="val", tokenizer="none")])
    assert group.published == []
