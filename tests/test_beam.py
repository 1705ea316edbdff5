"""Single steps of the searches, worked out by hand."""

import torch

from prefixcap.beam import AverageBeam, Greedy, SumBeam
from prefixcap.hypotheses import Choice, HypothesisTable, NextTokens

STOP = torch.tensor([0])


def following(log_probs: list[list[float]], is_last: bool = False) -> NextTokens:
    """Next tokens of one image from log-probabilities (W, V)."""
    logits = torch.tensor([log_probs]) + 5.0  # the normaliser takes the 5 away again
    return NextTokens(logits, torch.full((1, len(log_probs), 1), 5.0), STOP, is_last)


def empty() -> HypothesisTable:
    """One image before its first token."""
    return HypothesisTable.empty(1, 4, torch.device("cpu"))


def picked(choice: Choice) -> list[tuple[int, int]]:
    """(parent, token) of each chosen hypothesis of the only image."""
    return list(zip(choice.parents[0].tolist(), choice.tokens[0].tolist(), strict=True))


def test_greedy_takes_the_arg_max_and_its_log_probability():
    choice = Greedy().choose(following([[-3.0, -0.5, -2.0]]), empty())
    assert choice.tokens.tolist() == [[1]]
    assert choice.log_probs.tolist() == [[-0.5]]


def test_in_the_average_beam_a_stopped_hypothesis_competes_with_its_own_average():
    beam = AverageBeam(2)
    choice = beam.choose(following([[-1.0, -1.5, -3.0]]), empty())
    live = empty().extended(choice, STOP)  # "0" stopped at -1.0; "1" live at -1.5
    assert not beam.finished(live).any()
    choice = beam.choose(following([[-0.1, -0.1, -0.1], [-2.0, -0.3, -9.0]]), live)
    # averages: "0" stays -1.0, "1 1" gets (-1.5 - 0.3) / 2 = -0.9; by sums "0" would be first
    assert picked(choice) == [(1, 1), (0, 0)]
    live = live.extended(choice, STOP)
    assert live.lengths.tolist() == [[2, 1]]
    assert [h.ids for h in beam.hypotheses(live, [0])[0]] == [[1, 1], [0]]


def test_the_average_beam_is_finished_when_every_possible_slot_has_stopped():
    beam = AverageBeam(2)
    live = empty().extended(
        Choice(
            torch.tensor([[0, 1]]), torch.tensor([[-1.0, -torch.inf]]), torch.zeros(1, 2).long()
        ),
        STOP,
    )
    assert beam.finished(live).all()


def test_the_sum_beam_keeps_a_finished_hypothesis_apart_and_goes_on_with_full_width():
    beam = SumBeam(2, 1.0)
    choice = beam.choose(following([[-0.2, -2.0, -3.0]]), empty())
    assert picked(choice) == [(0, 1), (0, 2)]
    live = empty().extended(choice, STOP)
    assert [h.ids for h in beam.hypotheses(live, [0])[0]] == [[0]]
    assert not beam.finished(live).any()  # room for a second one


def test_the_sum_beam_refuses_an_end_that_is_not_among_the_best():
    beam = SumBeam(1, 1.0)
    choice = beam.choose(following([[-2.0, -0.5, -3.0]]), empty())
    live = empty().extended(choice, STOP)
    assert picked(choice) == [(0, 1)]
    assert beam.hypotheses(live, [0]) == [[]]


def test_the_sum_beam_is_finished_when_no_live_hypothesis_promises_more():
    beam = SumBeam(1, 0.0)
    live = empty().extended(beam.choose(following([[-0.5, -0.6, -3.0]]), empty()), STOP)
    assert beam.finished(live).all()  # -0.6 and falling against -0.5


def test_the_length_penalty_decides_between_short_and_long():
    def best(penalty: float) -> list[int]:
        beam = SumBeam(2, penalty)
        live = empty().extended(beam.choose(following([[-1.0, -1.2, -9.0]]), empty()), STOP)
        rows = [[-0.4, -9.0, -9.0], [-9.0, -9.0, -9.0]]
        live = live.extended(beam.choose(following(rows), live), STOP)
        return beam.hypotheses(live, [0])[0][0].ids

    assert best(0.0) == [0]  # -1.0 against -1.6
    assert best(1.0) == [1, 0]  # -1.0 against -0.8


def test_at_the_last_token_live_hypotheses_are_finished_ones():
    beam = SumBeam(2, 1.0)
    live = empty().extended(beam.choose(following([[-9.0, -1.0, -2.0]], True), empty()), STOP)
    assert [h.ids for h in beam.hypotheses(live, [0])[0]] == [[1], [2]]
