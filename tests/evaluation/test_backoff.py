"""Names that can be vouched for: exact bounds, and the promise over many samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from fieldmark.evaluation.backoff import (
    NONE,
    Promise,
    area_gain,
    area_under_risk_coverage,
    highest_promise,
    images_for,
    promise,
    risk_coverage,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def sample(count: int, seed: int, power: float = 0.35) -> tuple[Floats, Bools]:
    """Calibrated confidences of two levels and whether the answers are right."""
    rng = np.random.default_rng(seed)
    fine = rng.random(count) ** power
    coarse = fine + (1 - fine) * rng.random(count)
    draw = rng.random(count)
    return np.stack([fine, coarse], axis=1), np.stack([draw < fine, draw < coarse], axis=1)


@pytest.mark.parametrize("accuracy", [0.9, 0.95])
def test_the_promise_is_kept_in_nineteen_of_twenty_samples(accuracy: float) -> None:
    """On 50,000 further images, for each of 200 validation samples."""
    confidences, right = sample(50_000, seed=99)
    kept = given_names = 0
    for seed in range(200):
        found = promise(*sample(800, seed), accuracy)
        level = found.levels(confidences)
        answered = level != NONE
        given_names += bool(answered.any())
        kept += not answered.any() or right[answered, level[answered]].mean() >= accuracy - 0.001
    assert kept >= 182  # the 1 % quantile of a binomial of 200 at 95 %
    assert given_names > 120


def test_the_last_threshold_before_the_first_failure() -> None:
    confidences, right = sample(1500, seed=4)
    found = promise(confidences, right, 0.9)
    assert found.threshold is not None
    for threshold, passes in ((found.threshold, True), (round(found.threshold - 0.005, 9), False)):
        level = Promise(0.9, threshold, 0, 0, 0).levels(confidences)
        answered = level != NONE
        hits = int(right[answered, level[answered]].sum())
        test = binomtest(hits, int(answered.sum()), 0.9, alternative="greater")
        assert (test.pvalue <= 0.05) == passes
        if passes:
            assert (found.num_answered, found.num_right) == (int(answered.sum()), hits)
    assert found.problem == ""


def test_all_answers_are_given_where_all_are_right_enough() -> None:
    found = promise(np.full((500, 1), 0.4), np.ones((500, 1), bool), 0.95)
    assert found.threshold is None  # no answer claims so much
    found = promise(np.full((500, 1), 0.97), np.ones((500, 1), bool), 0.95)
    assert found.threshold == 0


@pytest.mark.parametrize("claimed", [pytest.param(1.0, marks=pytest.mark.slow), 1.3])
def test_the_chosen_accuracy_is_kept_in_nineteen_of_twenty_samples(claimed: float) -> None:
    """Also where answers are right less often than they claim, and the choice has the most to be wrong about."""
    confidences, _ = sample(50_000, seed=99, power=0.8)
    kept, chosen = 0, set()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        drawn = confidences[rng.integers(50_000, size=400)]
        found, _ = highest_promise(drawn, rng.random(400)[:, None] < drawn**claimed)
        chosen.add(found.accuracy if found.threshold is not None else None)
        level = found.levels(confidences)
        answered = level != NONE
        kept += not answered.any() or (confidences[answered, level[answered]] ** claimed).mean() >= found.accuracy
    assert kept >= 182
    assert len(chosen) >= 2


def test_the_highest_accuracy_that_is_not_beyond_a_failure() -> None:
    rng = np.random.default_rng(0)
    for rate, expected in ((0.99, 0.95), (0.93, 0.9), (0.85, 0.8), (0.75, 0.7)):
        right = rng.random((2000, 1)) < rate
        found, missed = highest_promise(np.full((2000, 1), rate), right)
        assert (missed is None) == (expected == 0.95)
        assert (found.accuracy, found.threshold, found.share) == (expected, 0, 1)
        assert found.kept == (
            f"{100 * expected:g} % accuracy is promised for the names given, which 100 % of the images get"
        )
    nothing, missed = highest_promise(np.full((2000, 1), 0.99), rng.random((2000, 1)) < 0.5)
    assert missed is nothing
    assert (nothing.accuracy, nothing.threshold, nothing.share, nothing.kept) == (0.7, None, 0, "")
    assert (nothing.levels(np.ones((3, 1))) == NONE).all()


def test_to_choose_costs_no_confidence() -> None:
    """The hardest case: at each step, answers are right just less often than it would be promised."""
    rng, false = np.random.default_rng(0), 0
    confidences = np.repeat([0.99, 0.905], [200, 800])[:, None]
    rates = np.repeat([0.9499, 0.8874], [200, 800])[:, None]
    for _ in range(400):
        found, _ = highest_promise(confidences, rng.random((1000, 1)) < rates)
        if found.threshold is not None:
            false += rates[confidences >= found.threshold].mean() < found.accuracy
    assert false <= 30  # the 99 % quantile of a binomial of 400 at 5 %


@given(st.integers(0, 10_000), st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_what_is_promised_by_default_can_also_be_asked_for(seed: int, count: int) -> None:
    """And then for at least as many images, since nothing is chosen."""
    confidences, right = sample(count, seed, power=0.6)
    found, missed = highest_promise(confidences, right)
    if found.threshold is not None:
        assert promise(confidences, right, found.accuracy).share >= found.share
    assert missed is None or missed.problem


@pytest.mark.parametrize(("accuracy", "least"), [(0.9, 29), (0.95, 59), (0.99, 299)])
def test_images_that_it_takes(accuracy: float, least: int) -> None:
    """If all are right: the least n with accuracy^n ≤ 0.05, scaled by the share that is answered."""
    assert accuracy**least <= 0.05 < accuracy ** (least - 1)
    assert images_for(accuracy, asked=True) == least
    assert accuracy ** images_for(accuracy) <= 0.02 < accuracy ** (images_for(accuracy) - 1)
    sure = np.full((least - 1, 1), 0.9999)
    lacking = promise(sure, np.ones_like(sure, bool), accuracy)
    assert lacking.threshold is None
    assert lacking.needed == least
    assert lacking.problem == (
        f"An accuracy of {100 * accuracy:g} % cannot be promised from {least - 1} independent validation images: "
        f"with answers as sure as these, it would take about {least:,}"
    )
    half = np.concatenate([sure, np.zeros_like(sure)])
    assert promise(half, np.ones_like(half, bool), accuracy).needed == 2 * least
    enough = np.full((least, 1), 0.999)
    assert promise(enough, np.ones_like(enough, bool), accuracy).threshold is not None


def test_more_images_would_not_help() -> None:
    confidences = np.full((1000, 1), 0.99)
    found = promise(confidences, np.arange(1000)[:, None] < 800, 0.95)
    assert found.threshold is None
    assert found.problem == (
        "An accuracy of 95 % cannot be promised: only 800 of the 1,000 most confident validation answers are right"
    )
    modest = promise(confidences - 0.3, np.arange(1000)[:, None] < 800, 0.95)
    assert (modest.threshold, modest.needed) == (None, None)
    assert modest.problem == (
        "An accuracy of 95 % cannot be promised: no answer for 1,000 independent validation images is certain enough"
    )


def test_risk_coverage_by_a_loop() -> None:
    rng = np.random.default_rng(0)
    confidence, right = rng.random(50), rng.random(50) < 0.7
    order = sorted(range(50), key=lambda i: -confidence[i])
    expected = [1 - np.mean([right[i] for i in order[: n + 1]]) for n in range(50)]
    assert risk_coverage(confidence, right) == pytest.approx(np.array(expected))
    assert area_under_risk_coverage(confidence, right) == pytest.approx(np.mean(expected))


@given(st.permutations(range(12)))
@settings(max_examples=30)
def test_equal_confidences_stand_in_no_order(order: list[int]) -> None:
    confidence, right = np.repeat([0.9, 0.5, 0.2], 4), np.arange(12) % 3 > 0
    expected = area_under_risk_coverage(confidence, right)
    assert area_under_risk_coverage(confidence[order], right[order]) == pytest.approx(expected)


def test_the_better_order_has_the_smaller_area() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(600)
    right = rng.random(600) < confidence
    gain, low, high = area_gain(confidence, right, rng.random(600), right, replicates=200)
    assert 0 < low < gain < high
    assert area_gain(confidence, right, confidence, right, replicates=10) == (0, 0, 0)
