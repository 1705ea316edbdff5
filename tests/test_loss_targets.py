"""What outputs should predict, part by part."""

import torch

from prefixcap.loss_targets import Targets, Taught


def test_parts_hold_the_targets_of_their_rows_counted_from_the_first():
    taught = Taught(torch.arange(12.0).view(6, 2), 0.5)
    ids, weights = torch.tensor([7, 8, 9, 10, 11]), torch.arange(5.0)
    whole = Targets(ids, torch.tensor([4, 0, 3, 3, 5]), weights, 0.1, taught)
    part = whole.part(3, 5)
    assert part.ids.tolist() == [7, 9, 10]
    assert part.rows.tolist() == [1, 0, 0]
    assert part.weights.tolist() == [0, 2, 3]
    assert part.smoothing == 0.1
    assert part.taught.share == 0.5
    assert torch.equal(part.taught.probabilities, taught.probabilities[3:5])
    assert Targets(ids, whole.rows, weights).part(0, 6).taught is None
