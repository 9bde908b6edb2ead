"""Paired figures against SciPy's bootstrap, the normal approximation, and a loop that draws unit by unit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fieldmark.evaluation.paired import Difference, interval, resampled_means


def test_the_interval_of_a_difference_is_that_of_scipy() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random(400) < 0.7, rng.random(400) < 0.6
    difference = first.astype(float) - second
    replicates = resampled_means(difference[:, None], np.arange(400), replicates=4000)[:, 0]
    low, high = interval(difference.mean(), replicates)
    reference = stats.bootstrap(
        (first, second), lambda a, b: a.mean() - b.mean(), paired=True, vectorized=False, method="percentile",
        n_resamples=4000, rng=rng,
    ).confidence_interval  # fmt: skip
    assert (low, high) == pytest.approx(tuple(reference), abs=0.006)
    half = 1.96 * difference.std() / 20
    assert (low, high) == pytest.approx((difference.mean() - half, difference.mean() + half), abs=0.006)


def test_all_columns_see_the_same_images() -> None:
    values = np.random.default_rng(0).random((60, 2))
    both = resampled_means(np.column_stack([values, values[:, 0] - values[:, 1]]), np.arange(60))
    assert both[:, 2] == pytest.approx(both[:, 0] - both[:, 1])


def test_a_burst_is_drawn_as_a_whole() -> None:
    units = np.array([7, 7, 7, 2, 2, 5])
    values = np.array([1.0, 2, 4, 8, 16, 32])
    rng = np.random.default_rng(3)
    expected = []
    for _ in range(50):
        drawn = [values[units == np.array([2, 5, 7])[unit]] for unit in rng.integers(3, size=3)]
        expected.append(np.concatenate(drawn).mean())
    assert resampled_means(values[:, None], units, seed=3, replicates=50)[:, 0] == pytest.approx(np.array(expected))


def test_a_burst_makes_an_interval_as_wide_as_its_number_of_witnesses() -> None:
    right = (np.random.default_rng(0).random(100) < 0.5).astype(float)
    alone = resampled_means(right[:, None], np.arange(100))[:, 0]
    frames = resampled_means(np.repeat(right, 10)[:, None], np.repeat(np.arange(100), 10))[:, 0]
    assert frames.std() == pytest.approx(alone.std(), rel=0.01)


def test_what_a_difference_says() -> None:
    assert not Difference(0.1, 0.0, 0.2).is_clear  # zero is in it
    assert Difference(-0.1, -0.2, -0.01).is_clear
    assert Difference(0.1, 0.05, 0.2, (0.1, 0.2)).in_every_seed
    assert not Difference(0.1, 0.05, 0.2, (0.3, 0.0)).in_every_seed
    assert interval(0.5, np.linspace(0, 0.4, 100)) == (pytest.approx(0.01), 0.5)  # the value is inside
