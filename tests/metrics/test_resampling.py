"""Intervals against normal theory, and the paired test on runs that differ or do not."""

import numpy as np
import pytest

from prefixcap.metrics import compare, interval, score
from prefixcap.metrics.resampling import mean_of
from tests.metrics.coco_code import random_case


def test_the_interval_of_a_mean_is_that_of_normal_theory():
    values = np.random.default_rng(0).normal(5, 2, 4000)
    found = interval(mean_of(values), resamples=4000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_95_percent_intervals_hold_the_truth_about_95_times_in_100():
    generator = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        found = interval(mean_of(generator.normal(size=100)), resamples=300, seed=seed)
        held += found.low <= 0 <= found.high
    assert 180 <= held <= 198


def test_bleu_is_resampled_by_its_counts_not_by_its_per_image_values():
    candidates, references = random_case(150, seed=4)
    scores = score(dict(enumerate(candidates)), dict(enumerate(references)), ["bleu"], "none")
    statistic = scores.statistics["BLEU-4"]
    generator = np.random.default_rng(0)
    drawn = generator.integers(150, size=150)
    again = score(
        {row: candidates[image] for row, image in enumerate(drawn)},
        {row: references[image] for row, image in enumerate(drawn)},
        ["bleu"],
        "none",
    )
    value = statistic.value(statistic.summands[drawn].sum(0))
    assert value == pytest.approx(again.corpus["BLEU-4"], rel=0, abs=1e-12)
    found = interval(statistic)
    assert found.low < scores.corpus["BLEU-4"] < found.high


def test_the_same_seed_gives_the_same_interval():
    statistic = mean_of(np.arange(50.0))
    assert interval(statistic, seed=3) == interval(statistic, seed=3)
    assert interval(statistic, seed=3) != interval(statistic, seed=4)


def test_a_run_does_not_differ_from_itself():
    statistic = mean_of(np.random.default_rng(0).normal(size=300))
    found = compare(statistic, statistic)
    assert found.difference == 0
    assert found.p_value == 1


def test_a_small_paired_gain_is_seen_where_runs_vary_together():
    generator = np.random.default_rng(0)
    image = generator.normal(0, 1, 1000)
    better = mean_of(image + 0.02 + generator.normal(0, 0.05, 1000))
    found = compare(better, mean_of(image))
    assert found.p_value <= 0.01
    assert found.interval.low > 0


def test_without_a_difference_p_values_are_small_about_one_time_in_twenty():
    generator = np.random.default_rng(2)
    small = 0
    for seed in range(200):
        first, second = (mean_of(generator.normal(size=100)) for _ in range(2))
        small += compare(first, second, resamples=300, seed=seed).p_value <= 0.05
    assert 2 <= small <= 22


def test_runs_on_different_numbers_of_images_are_not_compared():
    with pytest.raises(ValueError, match="3 images in the first run, 2 in the second"):
        compare(mean_of(np.zeros(3)), mean_of(np.zeros(2)))
