"""Kappa against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from fieldmark.evaluation.grading import grade_scores, quadratic_kappa


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 7), st.integers(2, 60), st.integers(0, 2**31))
def test_kappa_is_scikit_learns(num_grades: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.integers(num_grades, size=count)
    given_ = np.where(rng.random(count) < 0.5, true, rng.integers(num_grades, size=count))
    found = quadratic_kappa(given_, true)
    if len(set(true) | set(given_)) == 1:
        assert np.isnan(found)
    else:
        all_grades = list(range(num_grades))  # else scikit-learn closes the gaps between those that occur
        reference = cohen_kappa_score(true, given_, weights="quadratic", labels=all_grades)
        assert found == pytest.approx(reference, abs=1e-9)
    times = rng.integers(0, 4, size=count)
    if len(set(np.repeat(true, times)) | set(np.repeat(given_, times))) > 1:
        repeated = quadratic_kappa(np.repeat(given_, times), np.repeat(true, times))
        assert quadratic_kappa(given_, true, times.astype(float)) == pytest.approx(repeated, abs=1e-9)


def test_grades_need_not_stand_in_the_order_of_the_classes() -> None:
    grades = np.array([2, 0, 1])  # classes sorted by name: high, low, medium
    labels, answers = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 1, 2, 2, 2, 2])
    found = grade_scores(grades, answers, labels)
    assert list(found) == ["quadratic_kappa", "grade_error"]
    assert found["quadratic_kappa"].value == pytest.approx(
        cohen_kappa_score(grades[labels], grades[answers], weights="quadratic")
    )
    assert found["grade_error"].value == pytest.approx(2 / 6)
    for score in found.values():
        assert score.low <= score.value <= score.high
        assert not score.percent


def test_all_right_is_no_certainty() -> None:
    labels = np.array([0, 1, 2, 1, 0])
    score = grade_scores(np.arange(3), labels, labels)["quadratic_kappa"]
    assert (score.value, score.high) == (1, 1)
    assert -1 <= score.low < 0
    bursts = grade_scores(np.arange(3), labels.repeat(9), labels.repeat(9), np.arange(5).repeat(9))["quadratic_kappa"]
    assert bursts.low == pytest.approx(score.low)


def test_one_grade_has_no_kappa() -> None:
    same = np.zeros(4, int)
    assert list(grade_scores(np.arange(3), same, same)) == ["grade_error"]


def test_the_interval_covers_as_it_says() -> None:
    """Of samples of one population, about 95 % have an interval that holds its kappa."""
    rng = np.random.default_rng(0)
    true = rng.integers(5, size=100_000)
    given_ = np.clip(true + rng.choice([-1, 0, 0, 1], size=len(true)), 0, 4)
    kappa = quadratic_kappa(given_, true)
    inside = []
    for _ in range(40):
        rows = rng.integers(len(true), size=150)
        score = grade_scores(np.arange(5), given_[rows], true[rows])["quadratic_kappa"]
        inside.append(score.low <= kappa <= score.high)
    assert np.mean(inside) > 0.85
