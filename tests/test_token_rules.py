"""Rules against a plain reading of what they say."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prefixcap.errors import InputError
from prefixcap.hypotheses import Choice, HypothesisTable
from prefixcap.token_rules import TokenRules

VOCABULARY = 12
STOPS = torch.tensor([3, 7])


def table(captions: Sequence[Sequence[int]]) -> HypothesisTable:
    """One image with a hypothesis for each of `captions`, all equally long."""
    live = HypothesisTable.empty(1, 20, torch.device("cpu"))
    live = live.at(torch.zeros(1, len(captions), dtype=torch.int64))
    for tokens in zip(*captions, strict=True):
        live = live.extended(
            Choice(torch.tensor([tokens]), torch.zeros(1, len(captions))), STOPS[:0]
        )
    return live


def rules(
    forced: tuple[int, ...] = (), least: int = 0, block: int = 0, stops: Tensor = STOPS
) -> TokenRules:
    """Rules with captions of at most 20 tokens."""
    return TokenRules(stops, forced, least, 20, block)


def excluded(found: Tensor) -> list[set[int]]:
    """Excluded tokens of each hypothesis of the only image."""
    return [set(row.isneginf().nonzero().flatten().tolist()) for row in found[0]]


def repeating(caption: Sequence[int], length: int) -> set[int]:
    """Tokens that would make the last `length` tokens of the caption occur a second time."""
    seen = [tuple(caption[i : i + length]) for i in range(len(caption) - length + 1)]
    tail = tuple(caption[len(caption) - length + 1 :])
    return {token for token in range(VOCABULARY) if (*tail, token) in seen}


@given(
    captions=st.integers(0, 12).flatmap(
        lambda size: st.lists(
            st.lists(st.integers(0, 4), min_size=size, max_size=size), min_size=1, max_size=3
        )
    ),
    length=st.integers(1, 4),
)
@settings(max_examples=200, deadline=None)
def test_blocked_are_exactly_the_tokens_that_would_repeat_an_ngram(captions, length):
    found = rules(block=length).restrict(torch.zeros(1, len(captions), VOCABULARY), table(captions))
    assert excluded(found) == [repeating(caption, length) for caption in captions]


def test_stop_tokens_are_excluded_until_the_least_length_stands():
    for size in range(5):
        found = rules(least=3).restrict(torch.zeros(1, 1, VOCABULARY), table([[1] * size]))
        assert excluded(found) == [{3, 7} if size < 3 else set()]


def test_forced_tokens_leave_one_choice_and_keep_its_logit():
    logits = torch.arange(float(VOCABULARY)).expand(1, 1, -1).clone()
    found = rules(forced=(5, 9)).restrict(logits, table([[5]]))
    assert excluded(found) == [set(range(VOCABULARY)) - {9}]
    assert found[0, 0, 9] == 9.0


def test_no_forced_token_ends_a_caption():
    forced = rules(forced=(3, 7))
    assert [forced.stops_at(step).tolist() for step in range(3)] == [[], [], [3, 7]]


def test_rules_that_would_leave_nothing_yield():
    caption = list(range(VOCABULARY))
    found = rules(block=1).restrict(torch.zeros(1, 1, VOCABULARY), table([caption]))
    assert excluded(found) == [set()]
    found = rules(least=4, stops=torch.arange(VOCABULARY)).restrict(
        torch.zeros(1, 1, VOCABULARY), table([[1]])
    )
    assert excluded(found) == [set()]


def test_without_rules_the_logits_are_handed_through_uncopied():
    logits = torch.zeros(1, 1, VOCABULARY)
    assert rules().restrict(logits, table([[1, 2]])) is logits


def test_more_forced_tokens_than_the_caption_holds_are_refused():
    with pytest.raises(InputError, match="Force fewer words or raise max_tokens"):
        rules(forced=(1,) * 21)
