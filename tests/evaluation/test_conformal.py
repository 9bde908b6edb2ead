"""Prediction sets: against loops, and held to what they promise over many splits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta, binom

from fieldmark.evaluation.conformal import (
    ENOUGH,
    Penalty,
    coverage_interval,
    images_needed,
    score,
    set_limits,
    sets,
    standing,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PENALTIES = [Penalty(), Penalty(0.1, 2), Penalty(0.05, 1)]


def drawn(count: int, num_classes: int = 8, seed: int = 0, sharpness: float = 1.5) -> tuple[Floats, Ints]:
    """Probabilities, and labels that were drawn from others: sets must hold for a model that is wrong."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(count, num_classes))
    true = np.exp(0.6 * logits)
    labels = (rng.random((count, 1)) > (true / true.sum(1, keepdims=True)).cumsum(1)).sum(1).clip(0, num_classes - 1)
    probabilities = np.exp(logits)
    return probabilities / probabilities.sum(1, keepdims=True), labels


def test_standing_by_example() -> None:
    probabilities = np.array([[0.1, 0.5, 0.1, 0.3]])
    for label, above, rank in ((0, 0.8, 2), (1, 0.0, 0), (2, 0.9, 3), (3, 0.5, 1)):
        found = standing(probabilities, np.array([label]))
        assert (found[0][0], found[1][0]) == (pytest.approx(above), rank)
    assert score(np.array([0.8]), np.array([2]), Penalty(0.1, 2)) == pytest.approx([0.9])


@pytest.mark.parametrize("penalty", PENALTIES)
def test_sets_by_a_loop(penalty: Penalty) -> None:
    probabilities, labels = drawn(60)
    above, rank = standing(probabilities, labels)
    limits = set_limits(score(above, rank, penalty), labels, 8, 0.8)
    inside = sets(probabilities, limits, penalty)
    for row, p in enumerate(probabilities):
        expected, mass = set(), 0.0
        for place, k in enumerate(np.argsort(-p)):
            if place == 0 or mass + penalty.weight * max(0, place + 1 - penalty.free) <= limits[k]:
                expected.add(int(k))
            mass += p[k]
        assert set(np.flatnonzero(inside[row]).tolist()) == expected


@pytest.mark.parametrize("penalty", PENALTIES)
# up to 0.96, the thirty images of the other classes suffice for their threshold: beyond, those of all classes set it
@given(seed=st.integers(0, 1000), shares=st.lists(st.floats(0.05, 0.96), min_size=2, max_size=5))
@settings(max_examples=20, deadline=None)
def test_sets_grow_with_coverage_and_hold_the_likeliest(penalty: Penalty, seed: int, shares: list[float]) -> None:
    probabilities, labels = drawn(150, num_classes=3, seed=seed)
    labels[:120] = 0  # one class has a threshold of its own
    scores = score(*standing(probabilities, labels), penalty)
    grown = [sets(probabilities, set_limits(scores, labels, 3, share), penalty) for share in sorted(shares)]
    for smaller, larger in itertools.pairwise(grown):
        assert (larger | ~smaller).all()
    assert grown[0][np.arange(150), probabilities.argmax(1)].all()


@pytest.mark.parametrize("penalty", PENALTIES)
def test_coverage_over_random_splits(penalty: Penalty) -> None:
    probabilities, labels = drawn(1000)
    scores = score(*standing(probabilities, labels), penalty)
    covered, inside_interval = [], 0
    low, high = coverage_interval([500], [500], 0.9)
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(1000)
        # one threshold for all, as the classes' own have distributions of their own
        limit = set_limits(scores[order[:500]], np.zeros(500, np.int64), 1, 0.9)[0]
        held = order[500:]
        found = sets(probabilities[held], np.full(8, limit), penalty)[np.arange(500), labels[held]].mean()
        covered.append(found)
        inside_interval += low <= found <= high
    assert np.mean(covered) == pytest.approx(0.9, abs=0.005)
    assert inside_interval >= 180


def test_large_classes_have_thresholds_of_their_own() -> None:
    scores = np.concatenate([np.linspace(0, 0.1, ENOUGH), np.linspace(0.5, 0.9, ENOUGH - 1), np.full(29, 0.95)])
    labels = np.repeat([0, 1, 2], [ENOUGH, ENOUGH - 1, 29])
    limits = set_limits(scores, labels, 4, 0.9)
    assert limits[0] <= 0.1
    assert limits[1] == limits[2] == limits[3] >= 0.9  # class 3 has no image at all
    wide = set_limits(np.concatenate([scores, np.full(200, 0.3)]), np.concatenate([labels, np.full(200, 3)]), 4, 0.98)
    assert np.isfinite(wide).all()  # 30 images of a class are not enough for 98 %, all others together are


@pytest.mark.parametrize("rare", [0, 4])
def test_a_rare_class_beside_large_ones_goes_by_all_images(rare: int) -> None:
    scores = np.concatenate([np.linspace(0, 0.9, 300), np.linspace(0, 0.8, 200), np.full(rare, 0.5)])
    labels = np.repeat([0, 1, 2], [300, 200, rare])
    limits = set_limits(scores, labels, 3, 0.9)
    assert np.isfinite(limits).all()
    assert limits[1] < limits[2] < limits[0]
    assert np.isinf(set_limits(scores[:8], labels[:8], 3, 0.9)).all()  # of eight images in all, none do


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_images_needed_is_exact(coverage: float) -> None:
    least = images_needed(coverage)
    for count in (least - 1, least):
        limits = set_limits(np.linspace(0, 1, count), np.zeros(count, np.int64), 2, coverage)
        assert np.isinf(limits).all() == (count < least)


def test_the_interval_against_its_definition() -> None:
    """Coverage of one calibration is Beta; given it, the number covered is binomial."""
    draws = np.random.default_rng(0)
    shares = beta.rvs(91, 10, size=40_000, random_state=draws)  # of 100 images the 91st score
    counts = binom.rvs(200, shares, random_state=draws)
    low, high = coverage_interval([100], [200], 0.9)
    assert (low, high) == pytest.approx(np.quantile(counts, [0.025, 0.975]) / 200, abs=0.006)
    two = coverage_interval([100, 50], [200, 100], 0.9)
    other = binom.rvs(100, beta.rvs(46, 5, size=40_000, random_state=draws), random_state=draws)
    assert two == pytest.approx(np.quantile(counts + other, [0.025, 0.975]) / 300, abs=0.006)
    assert coverage_interval([5], [10], 0.9) == (1.0, 1.0)  # too few: every class is in the set
