"""Options of the command line become decoding options, or a line that says why not."""

import pytest

from prefixcap.cli.decoding import DecodingWishes
from prefixcap.config import DecodeOptions
from prefixcap.errors import InputError

STORED = DecodeOptions(beam_size=3, max_tokens=20, length_penalty=0.7, order="sum")


def test_without_wishes_the_model_keeps_its_options():
    assert DecodingWishes().options(STORED) == STORED


@pytest.mark.parametrize(
    ("wishes", "changes"),
    [
        ({"beam": 5}, {"method": "beam", "beam_size": 5}),
        ({"beam": 1}, {"method": "greedy", "beam_size": 1}),
        ({"votes": 8, "seed": 2}, {"votes": 8, "seed": 2}),
        ({"captions": 2}, {"captions_per_image": 2}),
        ({"captions": 7}, {"captions_per_image": 7, "method": "beam", "beam_size": 7}),
        (
            {"sample": True, "captions": 4, "seed": 3},
            {"method": "sample", "beam_size": 1, "captions_per_image": 4, "seed": 3},
        ),
        ({"sample": True, "top_k": 5, "temperature": 0.5}, {"top_k": 5, "temperature": 0.5}),
        ({"length_penalty": 2.0}, {"length_penalty": 2.0, "order": "sum"}),
        ({"begin": "a photo", "block_ngrams": 2}, {"forced_words": "a photo", "block_ngrams": 2}),
        ({"min_tokens": 0, "max_tokens": 9}, {"min_tokens": 0, "max_tokens": 9}),
    ],
)
def test_a_wish_changes_what_it_names(wishes, changes):
    found = DecodingWishes(**wishes).options(STORED)
    if wishes.get("sample"):
        changes = {"method": "sample", "beam_size": 1, **changes}
    assert found == STORED.model_copy(update=changes)


@pytest.mark.parametrize("wishes", [{"sample": True}, {"beam": 1}])
def test_without_a_beam_nothing_is_voted_on(wishes):
    assert DecodingWishes(**wishes).options(STORED.model_copy(update={"votes": 8})).votes == 0


def test_a_length_penalty_takes_the_usual_beam_order():
    original = DecodeOptions(beam_size=5, order="average")
    assert DecodingWishes(length_penalty=0.5).options(original).order == "sum"


def test_a_stop_word_stops_a_model_that_stopped_at_its_end_token():
    stored = DecodeOptions(stop="end")
    assert DecodingWishes(stop_word="and").options(stored).stop == "either"
    assert DecodingWishes(stop_word="and").options(DecodeOptions(stop="word")).stop == "word"


@pytest.mark.parametrize(
    "wishes",
    [
        {"sample": True, "beam": 3},
        {"sample": True, "length_penalty": 1.0},
        {"beam": 1, "length_penalty": 1.0},
        {"beam": 1, "votes": 4},
        {"sample": True, "votes": 4},
        {"beam": 2, "captions": 3},
        {"min_tokens": 4, "max_tokens": 3},
    ],
)
def test_contradictions_are_refused_whatever_the_model(wishes):
    with pytest.raises(InputError, match="--"):
        DecodingWishes(**wishes)


def test_a_contradiction_to_the_models_options_is_refused():
    with pytest.raises(InputError, match=r"caption options: .*above max_tokens 20"):
        DecodingWishes(min_tokens=21).options(STORED)


@pytest.mark.parametrize("wish", [{"top_k": 3}, {"top_p": 0.5}, {"temperature": 2.0}, {"seed": 1}])
def test_a_wish_about_chance_is_refused_where_nothing_is_drawn(wish):
    (name,) = wish
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')}: has no effect"):
        DecodingWishes(**wish).options(STORED)


def test_a_wish_about_chance_holds_for_a_model_stored_to_draw():
    voting, sampling = DecodeOptions(beam_size=3, votes=8), DecodeOptions(method="sample")
    assert DecodingWishes(seed=5).options(voting).seed == 5
    assert DecodingWishes(seed=5, top_k=3).options(sampling).top_k == 3
    with pytest.raises(InputError, match="--top-k: has no effect"):
        DecodingWishes(top_k=3).options(voting)
    with pytest.raises(InputError, match="--seed: has no effect"):
        DecodingWishes(seed=5, votes=0).options(voting)
