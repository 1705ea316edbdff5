"""The door to all metrics: ids, names, and what is not scored."""

import pytest

from prefixcap.errors import InputError
from prefixcap.metrics import java, score, tokenize_all
from prefixcap.metrics.score import SCORERS

CANDIDATES = {"b": "A dog runs.", "a": "Two cats"}
REFERENCES = {"a": ["two cats sleep", "cats"], "b": ["the dog's run"]}


def test_per_image_values_come_in_the_order_of_the_candidates():
    found = score(CANDIDATES, REFERENCES)
    assert found.images == 2
    assert {tuple(values) for values in found.per_image.values()} == {("b", "a")}


def test_the_mean_of_per_image_values_is_the_corpus_value_of_rouge_and_cider():
    found = score(CANDIDATES, REFERENCES)
    for name in ("ROUGE-L", "CIDEr"):
        values = list(found.per_image[name].values())
        assert found.corpus[name] == pytest.approx(sum(values) / 2)


def test_captions_are_tokenized_unless_they_are_tokens():
    assert tokenize_all(CANDIDATES, REFERENCES).references == [
        ["the dog 's run"],
        ["two cats sleep", "cats"],
    ]
    assert tokenize_all(CANDIDATES, REFERENCES, "none").candidates == ["A dog runs.", "Two cats"]


def test_ids_on_one_side_only_are_listed():
    candidates = {number: "a dog" for number in range(20)}
    with pytest.raises(
        InputError, match=r"20 ids have a candidate, but no references: 0, 1, .* and 10 more"
    ):
        score(candidates, {})
    with pytest.raises(InputError, match="1 ids have references, but no candidate: z"):
        score(CANDIDATES, REFERENCES | {"z": ["x"]})
    with pytest.raises(InputError, match="1 ids have a candidate, but no references: a"):
        score(CANDIDATES, REFERENCES | {"a": []})


def test_nothing_to_score_is_an_error():
    with pytest.raises(InputError, match="no captions to score"):
        score({}, {})


def test_one_string_for_references_is_an_error():
    with pytest.raises(InputError, match="references of a are one string"):
        score({"a": "x"}, {"a": "a dog"})


def test_unknown_names_are_errors_that_list_the_known():
    with pytest.raises(
        InputError, match=f'unknown metric "bleau"; choose from {", ".join(SCORERS)}'
    ):
        score(CANDIDATES, REFERENCES, ["bleau"])
    with pytest.raises(InputError, match='unknown tokenizer "x"; choose from ptb'):
        score(CANDIDATES, REFERENCES, tokenizer="x")


def test_what_has_no_java_is_not_scored_and_the_rest_is(monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(java.util, "find_spec", lambda name: None)
    found = score(CANDIDATES, REFERENCES, ["bleu", "meteor", "spice"])
    assert set(found.corpus) == {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"}
    assert set(found.not_scored) == {"meteor", "spice"}
    assert "pip install" in found.not_scored["meteor"]
