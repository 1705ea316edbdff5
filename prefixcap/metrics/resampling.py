"""How far a corpus score can be trusted: bootstrap intervals, and a paired test of two runs.

Every corpus score here is a function of sums over images: of values (a mean) or of counts (BLEU,
METEOR). Resampling images therefore means resampling the summands (Efron 1979; Koehn 2004).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000  # Koehn 2004, section 3
LEVEL = 0.95
BLOCK = 100  # resamples drawn at once: bounds memory, 100 x 40,000 images x 8 bytes = 32 MB


@dataclass(frozen=True)
class Statistic:
    """A corpus score as a function of sums over images.

    Attributes:
        per_image: value of each image alone, (images,) float64.
        summands: what is summed over images, (images, K) float64.
        value: corpus score from such sums, (..., K) -> (...).
    """

    per_image: np.ndarray
    summands: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]

    @property
    def corpus(self) -> float:
        """The score of all images together."""
        return float(self.value(self.summands.sum(0)))


@dataclass(frozen=True)
class Interval:
    """Ends of a percentile bootstrap interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Difference of two runs on the same images.

    Attributes:
        difference: score of the first run minus that of the second.
        interval: bootstrap interval of that difference.
        p_value: two-sided, of no difference: twice the smaller share of resamples on one side of
            zero, at least 1 / resamples.
    """

    difference: float
    interval: Interval
    p_value: float


def mean_of(values: np.ndarray) -> Statistic:
    """The statistic whose corpus score is the mean of the per-image values, (images,)."""
    values = np.asarray(values, np.float64)
    summands = np.stack([values, np.ones(len(values))], axis=1)
    return Statistic(values, summands, lambda sums: sums[..., 0] / sums[..., 1])


def interval(
    statistic: Statistic, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of a corpus score, resampling images with replacement."""
    drawn = [
        statistic.value(weights @ statistic.summands)
        for weights in _weights(len(statistic.summands), resamples, seed)
    ]
    return _percentiles(np.concatenate(drawn), level)


def compare(
    first: Statistic,
    second: Statistic,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Comparison:
    """Paired bootstrap test (Koehn 2004) of two runs, images in the same order in both.

    Raises:
        ValueError: the runs have different numbers of images.
    """
    if len(first.summands) != len(second.summands):
        raise ValueError(
            f"{len(first.summands)} images in the first run, {len(second.summands)} in the second; "
            "compare runs on the same images"
        )
    drawn = np.concatenate(
        [
            first.value(weights @ first.summands) - second.value(weights @ second.summands)
            for weights in _weights(len(first.summands), resamples, seed)
        ]
    )
    beyond = min(np.mean(drawn <= 0), np.mean(drawn >= 0))
    p_value = float(np.clip(2 * beyond, 1 / resamples, 1))
    return Comparison(first.corpus - second.corpus, _percentiles(drawn, level), p_value)


def _weights(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn, (at most BLOCK, images) float64, `resamples` rows in all."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        drawn = generator.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images) * 1.0


def _percentiles(values: np.ndarray, level: float) -> Interval:
    """The middle `level` of some values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
