"""Searches against independent ones, against transformers, and against their own invariants."""

from collections.abc import Sequence
from itertools import chain, product

import pytest
import torch
from torch import Tensor

from prefixcap import decoding
from prefixcap.config import DecodeOptions
from prefixcap.decoding import Hypothesis, decode
from prefixcap.errors import InputError
from prefixcap.language_model import PrefixDecoder
from tests.step_models import ToyModel, prefixes, sources, tiny_gpt2

STOP = frozenset({3})
METHODS = {
    "greedy": DecodeOptions(max_tokens=9),
    "average beam": DecodeOptions(beam_size=4, captions_per_image=4, max_tokens=9),
    "sum beam": DecodeOptions(beam_size=4, captions_per_image=4, order="sum", max_tokens=9),
    "sample": DecodeOptions(method="sample", captions_per_image=3, max_tokens=9, seed=5),
    "beam with rules": DecodeOptions(
        beam_size=3, captions_per_image=3, min_tokens=3, block_ngrams=2, max_tokens=9
    ),
}
every_method = pytest.mark.parametrize("options", METHODS.values(), ids=METHODS.keys())


def ids_of(found: list[list[Hypothesis]]) -> list[list[list[int]]]:
    """Only the token ids."""
    return [[hypothesis.ids for hypothesis in image] for image in found]


def flat(found: list[list[Hypothesis]]) -> list[Hypothesis]:
    """The hypotheses of all images in one list."""
    return list(chain.from_iterable(found))


def check_same(found: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    """Equal ids; log-probabilities and scores equal to rounding."""
    assert ids_of(found) == ids_of(expected)
    for one, other in zip(flat(found), flat(expected), strict=True):
        assert one.log_probs == pytest.approx(other.log_probs, abs=2e-5)
        assert one.score == pytest.approx(other.score, abs=2e-5)


def all_captions(vocabulary: int, length: int) -> list[list[int]]:
    """Every caption of at most `length` tokens: it ends at a stop token or is `length` long."""
    captions: list[list[int]] = []
    for size in range(1, length + 1):
        for ids in product(range(vocabulary), repeat=size):
            whole = ids[-1] in STOP or size == length
            if whole and not STOP & set(ids[:-1]):
                captions.append(list(ids))
    return captions


def total_log_prob(model: ToyModel, source: Tensor, ids: list[int]) -> float:
    """Log-probability of a caption, computed apart from stepping."""
    return sum(float(model.log_probs(source, ids[:t])[ids[t]]) for t in range(len(ids)))


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_beam_as_wide_as_everything_finds_what_exhaustive_search_finds(penalty: float):
    """Vocabulary 4, 4 tokens: 121 captions, all of which a beam of 128 holds at once."""
    model, source = ToyModel(4), sources(3)
    options = DecodeOptions(
        beam_size=128, captions_per_image=128, order="sum", length_penalty=penalty, max_tokens=4
    )
    captions = all_captions(4, 4)
    for row, found in zip(source, decode(model, source, options, stop_ids=STOP), strict=True):
        scores = {
            tuple(ids): total_log_prob(model, row, ids) / len(ids) ** penalty for ids in captions
        }
        expected = sorted(scores, key=scores.__getitem__, reverse=True)
        assert len(found) == len(expected)
        assert [hypothesis.score for hypothesis in found] == pytest.approx(
            [scores[ids] for ids in expected], abs=1e-4
        )
        assert scores[tuple(found[0].ids)] == pytest.approx(scores[expected[0]], abs=1e-4)


def average_beam_by_hand(
    model: ToyModel, source: Tensor, width: int, limit: int
) -> list[list[int]]:
    """The original's rules in plain Python: averages compete, a finished beam keeps its slot."""
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    for _ in range(limit):
        rivals = []
        for total, ids in beams:
            if ids and ids[-1] in STOP:
                rivals.append((total, ids))
                continue
            log_probs = model.log_probs(source, ids).tolist()
            rivals += [(total + value, [*ids, token]) for token, value in enumerate(log_probs)]
        beams = sorted(rivals, key=lambda rival: rival[0] / len(rival[1]), reverse=True)[:width]
        if all(ids[-1] in STOP for _, ids in beams):
            break
    return [ids for _, ids in beams]


@pytest.mark.parametrize("width", [1, 2, 5, 9])
def test_average_beam_equals_the_original_rules_in_plain_python(width: int):
    model, source = ToyModel(17), sources(12)
    options = DecodeOptions(method="beam", beam_size=width, captions_per_image=width, max_tokens=10)
    found = ids_of(decode(model, source, options, stop_ids=STOP))
    assert found == [average_beam_by_hand(model, row, width, 10) for row in source]


@pytest.mark.parametrize("order", ["average", "sum"])
def test_beam_of_one_is_greedy(order: str):
    model, source = ToyModel(23), sources(20)
    beam = DecodeOptions(method="beam", order=order, max_tokens=12)
    greedy = DecodeOptions(max_tokens=12)
    check_same(
        decode(model, source, beam, stop_ids=STOP), decode(model, source, greedy, stop_ids=STOP)
    )


@every_method
def test_batch_equals_one_by_one(options: DecodeOptions):
    model, source = PrefixDecoder(tiny_gpt2()), prefixes(9)
    alone = [decode(model, row[None], options, stop_ids=STOP)[0] for row in source]
    check_same(decode(model, source, options, stop_ids=STOP), alone)


@every_method
def test_order_of_the_batch_changes_nothing(options: DecodeOptions):
    model, source = ToyModel(23), sources(9)
    turned = decode(model, source.flip(0), options, stop_ids=STOP)[::-1]
    check_same(decode(model, source, options, stop_ids=STOP), turned)


@every_method
@pytest.mark.parametrize("share", [1e-9, 2.0], ids=["at once", "never"])
def test_when_finished_images_leave_the_batch_changes_nothing(
    options: DecodeOptions, share: float, monkeypatch: pytest.MonkeyPatch
):
    model, source = PrefixDecoder(tiny_gpt2()), prefixes(12)
    expected = decode(model, source, options, stop_ids=STOP)
    monkeypatch.setattr(decoding, "LEAVE_SHARE", share)
    check_same(decode(model, source, options, stop_ids=STOP), expected)


def test_finished_images_are_not_computed_any_further():
    model, source = ToyModel(5), sources(40)
    decode(model, source, DecodeOptions(max_tokens=12), stop_ids=STOP)
    assert model.rows_stepped[0] > model.rows_stepped[-1]
    assert model.rows_stepped == sorted(model.rows_stepped, reverse=True)


@every_method
def test_fast_path_of_gpt2_equals_the_generic_path(options: DecodeOptions):
    lm, source = tiny_gpt2(), prefixes(8)
    fast, generic = PrefixDecoder(lm), PrefixDecoder(lm, fast=False)
    check_same(
        decode(fast, source, options, stop_ids=STOP),
        decode(generic, source, options, stop_ids=STOP),
    )


def generated(
    options: DecodeOptions, source: Tensor, settings: dict[str, object]
) -> list[list[list[int]]]:
    """Token ids that `generate` of transformers returns, cut after the stop token."""
    count = options.captions_per_image
    ids = tiny_gpt2().generate(
        inputs_embeds=source,
        attention_mask=torch.ones(source.shape[:2]),
        max_new_tokens=options.max_tokens,
        eos_token_id=sorted(STOP),
        pad_token_id=60,
        do_sample=False,
        num_return_sequences=count,
        **settings,
    )
    rows = [_cut(row) for row in ids.tolist()]
    return [rows[start : start + count] for start in range(0, len(rows), count)]


def _cut(ids: list[int]) -> list[int]:
    """Up to the first stop token, which stays."""
    ends = [place for place, token in enumerate(ids) if token in STOP]
    return ids[: ends[0] + 1] if ends else ids


COMMON_WITH_TRANSFORMERS = {
    "greedy": (DecodeOptions(max_tokens=10), {}),
    "greedy, longer": (DecodeOptions(max_tokens=10, min_tokens=6), {"min_new_tokens": 6}),
    "greedy, no word twice": (
        DecodeOptions(max_tokens=10, block_ngrams=1),
        {"no_repeat_ngram_size": 1},
    ),
    "beam": (DecodeOptions(beam_size=4, order="sum", max_tokens=10), {"num_beams": 4}),
    "beam, all": (
        DecodeOptions(beam_size=4, captions_per_image=4, order="sum", max_tokens=10),
        {"num_beams": 4},
    ),
    "beam, short": (
        DecodeOptions(beam_size=3, order="sum", length_penalty=0.0, max_tokens=10),
        {"num_beams": 3, "length_penalty": 0.0},
    ),
    "beam, long": (
        DecodeOptions(beam_size=3, order="sum", length_penalty=2.0, max_tokens=10),
        {"num_beams": 3, "length_penalty": 2.0},
    ),
    "beam, no pair twice": (
        DecodeOptions(beam_size=3, order="sum", block_ngrams=2, max_tokens=14),
        {"num_beams": 3, "no_repeat_ngram_size": 2},
    ),
}


@pytest.mark.filterwarnings("ignore:Passing `no_repeat_ngram_size` with:UserWarning")
@pytest.mark.parametrize(
    ("options", "settings"),
    COMMON_WITH_TRANSFORMERS.values(),
    ids=COMMON_WITH_TRANSFORMERS.keys(),
)
def test_captions_equal_those_of_transformers_generate(
    options: DecodeOptions, settings: dict[str, object]
):
    source = prefixes(24)
    found = decode(PrefixDecoder(tiny_gpt2()), source, options, stop_ids=STOP)
    assert ids_of(found) == generated(options, source, settings)


@pytest.mark.parametrize(
    "options",
    [
        DecodeOptions(max_tokens=8, block_ngrams=1),
        DecodeOptions(beam_size=3, captions_per_image=3, min_tokens=4, max_tokens=8),
        DecodeOptions(beam_size=3, captions_per_image=3, order="sum", max_tokens=8),
        DecodeOptions(
            method="sample", captions_per_image=4, temperature=0.5, top_k=4, top_p=0.9, max_tokens=8
        ),
    ],
)
def test_log_probs_are_those_of_the_unmodified_distribution(options: DecodeOptions):
    model, source = ToyModel(19), sources(6)
    found = decode(model, source, options, stop_ids=STOP, forced_ids=(7, 2))
    for row, hypothesis in [(r, h) for r, image in zip(source, found, strict=True) for h in image]:
        ids = hypothesis.ids
        expected = [float(model.log_probs(row, ids[:t])[ids[t]]) for t in range(len(ids))]
        assert hypothesis.log_probs == pytest.approx(expected, abs=1e-5)
        mean = sum(expected) / len(expected)
        assert hypothesis.score == pytest.approx(mean, abs=1e-5)


@every_method
def test_a_caption_ends_at_its_first_stop_token_or_at_the_longest_length(options: DecodeOptions):
    stops = frozenset({3, 11, 15})
    ended = 0
    for hypothesis in flat(decode(ToyModel(17), sources(20), options, stop_ids=stops)):
        assert not stops & set(hypothesis.ids[:-1])
        assert hypothesis.ids[-1] in stops or len(hypothesis.ids) == options.max_tokens
        assert len(hypothesis.log_probs) == len(hypothesis.ids)
        assert len(hypothesis.ids) > options.min_tokens
        ended += hypothesis.ids[-1] in stops
    assert ended > 0


@every_method
def test_without_stop_tokens_every_caption_has_the_longest_length(options: DecodeOptions):
    found = decode(ToyModel(17), sources(4), options, stop_ids=frozenset())
    assert {len(hypothesis.ids) for hypothesis in flat(found)} == {options.max_tokens}


@every_method
def test_forced_words_begin_every_caption_and_do_not_end_it(options: DecodeOptions):
    forced = (5, 3, 8)  # 3 is a stop token
    found = decode(ToyModel(17), sources(6), options, stop_ids=STOP, forced_ids=forced)
    for hypothesis in flat(found):
        assert tuple(hypothesis.ids[:3]) == forced
        assert len(hypothesis.ids) > 3


@every_method
def test_hypotheses_are_ordered_and_beams_hold_no_caption_twice(options: DecodeOptions):
    for image in decode(ToyModel(17), sources(6), options, stop_ids=STOP):
        scores = [hypothesis.score for hypothesis in image]
        assert scores == sorted(scores, reverse=True)
        captions = {tuple(hypothesis.ids) for hypothesis in image}
        assert len(captions) == len(image) or options.resolved_method == "sample"


def test_a_wider_beam_than_the_vocabulary_is_whole():
    options = DecodeOptions(beam_size=6, captions_per_image=6, max_tokens=1)
    (found,) = decode(ToyModel(4), sources(1), options, stop_ids=STOP)
    assert sorted(hypothesis.ids for hypothesis in found) == [[0], [1], [2], [3]]


def test_same_seed_same_captions_and_another_seed_others():
    def captions(seed: int) -> list[list[list[int]]]:
        options = DecodeOptions(method="sample", captions_per_image=5, seed=seed, max_tokens=9)
        return ids_of(decode(ToyModel(23), sources(4), options, stop_ids=STOP))

    assert captions(1) == captions(1)
    assert captions(1) != captions(2)


def test_fewer_samples_are_the_first_of_more():
    def captions(count: int) -> set[tuple[int, ...]]:
        options = DecodeOptions(method="sample", captions_per_image=count, max_tokens=9)
        return {tuple(h.ids) for h in decode(ToyModel(23), sources(1), options, stop_ids=STOP)[0]}

    assert captions(3) < captions(8)


@pytest.mark.parametrize("seeds", [[4, 9, 4], [-1, 2**70, -1]])
def test_an_image_s_own_seed_decides_its_sample(seeds: Sequence[int]):
    same = sources(1).repeat(3, 1)
    options = DecodeOptions(method="sample", max_tokens=12)
    first, second, third = ids_of(
        decode(ToyModel(23), same, options, stop_ids=STOP, image_seeds=seeds)
    )
    assert first == third
    assert first != second


def test_no_images_give_no_captions():
    assert decode(ToyModel(5), sources(0), DecodeOptions(), stop_ids=STOP) == []


def test_more_forced_words_than_tokens_are_refused():
    options = DecodeOptions(max_tokens=2)
    with pytest.raises(InputError, match="forced words are 3 tokens, but max_tokens is 2"):
        decode(ToyModel(9), sources(1), options, stop_ids=STOP, forced_ids=(1, 2, 4))


@every_method
def test_a_model_of_nans_is_refused_rather_than_captioned(options: DecodeOptions):
    model = ToyModel(9)
    model.output[0, 0] = float("nan")
    with pytest.raises(InputError, match="not numbers at caption token 1"):
        decode(model, sources(2), options, stop_ids=STOP)
