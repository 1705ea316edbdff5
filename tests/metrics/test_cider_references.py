"""CIDEr-D against prepared references equals CIDEr-D of the whole corpus at once."""

from collections import Counter

import numpy as np
import pytest

from prefixcap.errors import InputError
from prefixcap.metrics import CiderReferences, DocumentFrequencies, cider
from prefixcap.metrics.arrays import write_arrays
from prefixcap.metrics.ngrams import MAX_ORDER, tabulate
from tests.metrics.coco_code import random_case, word_groups, words


def test_with_frequencies_of_the_references_scores_equal_those_of_the_corpus():
    candidates, references = random_case(120, seed=5)
    whole = cider.per_image(tabulate(words(candidates), word_groups(references)))
    prepared = CiderReferences(dict(enumerate(references)))
    assert prepared.score(range(120), candidates) == pytest.approx(whole, rel=0, abs=1e-12)


def test_an_image_may_come_several_times_and_in_any_order():
    candidates, references = random_case(30, seed=6)
    prepared = CiderReferences(dict(enumerate(references)))
    alone = {
        (row, text): prepared.score([row], [text])[0] for row in (7, 3) for text in candidates[:4]
    }
    ids, texts = zip(*alone, strict=True)
    together = prepared.score(ids, texts)
    assert together == pytest.approx(np.array(list(alone.values())), rel=0, abs=1e-12)


def plain_cider(candidate: str, references: list[str], corpus: list[list[str]]) -> float:
    """CIDEr-D by the formulas of the paper, with document frequencies of another corpus."""

    def vector(text: str, order: int) -> dict[tuple, float]:
        found = text.split()
        counts = Counter(tuple(found[at : at + order]) for at in range(len(found) - order + 1))
        return {ngram: count * weight(ngram) for ngram, count in counts.items()}

    def weight(ngram: tuple) -> float:
        order, documents = len(ngram), 0
        for group in corpus:
            parts = [text.split() for text in group]
            documents += any(
                tuple(part[at : at + order]) == ngram for part in parts for at in range(len(part))
            )
        return np.log(len(corpus)) - np.log(max(documents, 1))

    total = 0.0
    for reference in references:
        apart = max(len(candidate.split()) - 1, 0) - max(len(reference.split()) - 1, 0)
        for order in range(1, MAX_ORDER + 1):
            ours, theirs = vector(candidate, order), vector(reference, order)
            norm = np.linalg.norm(list(ours.values())) * np.linalg.norm(list(theirs.values()))
            shared = ours.keys() & theirs.keys()
            dot = sum(min(ours[ngram], theirs[ngram]) * theirs[ngram] for ngram in shared)
            total += dot / norm * np.exp(-(apart**2) / 72) if norm else 0.0
    return 10 * total / MAX_ORDER / len(references)


def test_frequencies_of_another_corpus_weigh_the_ngrams():
    candidates, references = random_case(6, seed=7)
    _, corpus = random_case(25, seed=8)
    candidates[0] = "unseen unseen words on the grass"
    prepared = CiderReferences(dict(enumerate(references)), DocumentFrequencies.of(corpus))
    expected = [plain_cider(*pair, corpus) for pair in zip(candidates, references, strict=True)]
    assert prepared.score(range(6), candidates) == pytest.approx(expected, rel=0, abs=1e-12)


def test_saved_frequencies_score_the_same(tmp_path):
    candidates, references = random_case(20, seed=9)
    frequencies = DocumentFrequencies.of(references)
    frequencies.save(tmp_path / "df.safetensors")
    loaded = DocumentFrequencies.load(tmp_path / "df.safetensors")
    assert loaded.documents == 20
    ours, theirs = (
        CiderReferences(dict(enumerate(references)), given).score(range(20), candidates)
        for given in (frequencies, loaded)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_another_kind_of_file_is_refused(tmp_path):
    write_arrays(tmp_path / "weights.safetensors", {"a": np.zeros(2)}, {})
    with pytest.raises(InputError, match="document frequencies"):
        DocumentFrequencies.load(tmp_path / "weights.safetensors")


def test_captions_that_share_no_word_with_any_reference_score_zero():
    prepared = CiderReferences({"a": ["a dog"], "b": ["two cats"]})
    np.testing.assert_array_equal(prepared.score(["a", "b"], ["zebra", ""]), [0.0, 0.0])
