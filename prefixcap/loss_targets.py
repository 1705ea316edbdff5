"""What a language model's outputs should predict: tokens, and what teachers expect of them."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Taught:
    """What teachers expect, learned beside the tokens themselves (Hinton et al. 2015, section 2).

    Attributes:
        probabilities: (n, V) float, the teachers' for each row of logits; they get no gradient.
        share: of the loss that is the cross-entropy against them, 0 to 1.
    """

    probabilities: Tensor
    share: float


@dataclass(frozen=True)
class Targets:
    """What rows of logits should predict: N tokens, one or more for each row.

    Attributes:
        ids: (N,) int64, all in 0..V-1.
        rows: (N,) int64, the row of logits that predicts each.
        weights: (N,) float32, what each cross-entropy is multiplied by; may be negative, and get no
            gradient.
        smoothing: share of the target's probability spread evenly over the vocabulary
            (Szegedy et al. 2016, section 7).
        taught: what teachers expect; its share and the smoothing are taken off the target's.
    """

    ids: Tensor
    rows: Tensor
    weights: Tensor
    smoothing: float = 0.0
    taught: Taught | None = None

    def part(self, start: int, stop: int) -> "Targets":
        """The targets of the rows from `start` to before `stop`, counted from `start`."""
        here = (self.rows >= start) & (self.rows < stop)
        taught = self.taught and Taught(self.taught.probabilities[start:stop], self.taught.share)
        rows = self.rows[here] - start
        return Targets(self.ids[here], rows, self.weights[here], self.smoothing, taught)
