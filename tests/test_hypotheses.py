"""The table of live hypotheses."""

import pytest
import torch

from prefixcap.hypotheses import Choice, HypothesisTable

NO_STOP = torch.tensor([], dtype=torch.int64)


def grown(steps: list[tuple[list[int], list[float], list[int]]], stop: int = 9) -> HypothesisTable:
    """One image's table after steps of (tokens, log-probabilities, parents)."""
    live = HypothesisTable.empty(1, 5, torch.device("cpu"))
    for tokens, log_probs, parents in steps:
        choice = Choice(torch.tensor([tokens]), torch.tensor([log_probs]), torch.tensor([parents]))
        live = live.extended(choice, torch.tensor([stop]))
    return live


def test_a_hypothesis_follows_its_parent():
    live = grown([([1, 2], [-1.0, -2.0], [0, 0]), ([3, 4], [-0.5, -0.25], [1, 1])])
    assert live.written().tolist() == [[[2, 3], [2, 4]]]
    assert live.log_probs[0, :, :2].tolist() == [[-2.0, -0.5], [-2.0, -0.25]]
    assert live.sums.tolist() == [[-2.5, -2.25]]
    assert live.last_tokens().tolist() == [[3, 4]]


def test_a_stopped_hypothesis_keeps_its_length_and_sum():
    live = grown([([9, 2], [-1.0, -2.0], [0, 0]), ([5, 5], [-9.0, -1.0], [0, 1])])
    assert live.stopped.tolist() == [[True, False]]
    assert live.lengths.tolist() == [[1, 2]]
    assert live.sums.tolist() == [[-1.0, -3.0]]
    (found,) = live.ranked(live.averages(), [0])
    assert [hypothesis.ids for hypothesis in found] == [[9], [2, 5]]
    assert [hypothesis.score for hypothesis in found] == [-1.0, -1.5]


def test_extending_leaves_the_table_before_as_it_was():
    before = grown([([1], [-1.0], [0])])
    ids = before.ids.clone()
    before.extended(Choice(torch.tensor([[7]]), torch.tensor([[-1.0]])), NO_STOP)
    assert torch.equal(before.ids, ids)
    assert before.steps == 1


def test_ranked_leaves_out_impossible_hypotheses_and_keeps_ties_in_order():
    live = grown([([1, 2, 3], [-1.0, -torch.inf, -1.0], [0, 0, 0])])
    (found,) = live.ranked(live.averages(), [0])
    assert [hypothesis.ids for hypothesis in found] == [[1], [3]]


def test_kept_and_beside_select_images_and_add_hypotheses():
    live = HypothesisTable.empty(3, 2, torch.device("cpu"))
    live = live.extended(Choice(torch.tensor([[1], [2], [3]]), torch.zeros(3, 1)), NO_STOP)
    assert live.kept(torch.tensor([2, 0])).written().tolist() == [[[3]], [[1]]]
    assert live.beside(live).written().tolist() == [[[1], [1]], [[2], [2]], [[3], [3]]]


def test_a_table_that_is_full_refuses_more_tokens():
    live = grown([([1], [-1.0], [0])] * 5)
    with pytest.raises(IndexError):
        live.extended(Choice(torch.tensor([[1]]), torch.tensor([[-1.0]])), NO_STOP)
