"""Held-out images choose between two orders of answers, and thresholds mean the same in either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.backoff import area_under_risk_coverage
from fieldmark.evaluation.calibration import Calibration, Held
from fieldmark.evaluation.order import Order, choose_order
from fieldmark.evaluation.scaling import Scaling
from fieldmark.evaluation.thresholds import Thresholds
from fieldmark.evaluation.verdict_scores import score_verdicts

CLASSES = ("a1", "a2", "b1")
LEVELS = Taxonomy.of(CLASSES, {"genus": ("A", "A", "B")})
Floats = NDArray[np.float64]


def answers(count: int, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Calibrated log-probabilities, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    log_probabilities = log_softmax(2 * rng.normal(size=(count, 3)), axis=1)
    labels = (np.exp(log_probabilities).cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    return log_probabilities, labels


def by_softmax(count: int, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Answers whose second and third class matter: right where these two are far apart, wrong where they are alike."""
    rng = np.random.default_rng(seed)
    first, share = 0.4 + 0.05 * rng.random(count), rng.random(count) / 2
    rest = 1 - first
    probabilities = np.stack([first, rest * (1 - share), rest * share], axis=1)
    probabilities[:, 1] = probabilities[:, 1].clip(None, first - 0.001)
    probabilities[:, 2] = 1 - probabilities[:, :2].sum(axis=1)
    sharpened = (probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)).max(axis=1)
    right = sharpened > np.median(sharpened)
    order = rng.permuted(np.tile(np.arange(3), (count, 1)), axis=1)  # which column is which class
    rows = np.arange(count)
    return np.log(np.take_along_axis(probabilities, order, axis=1)), order.argsort(axis=1)[rows, np.where(right, 0, 1)]


@pytest.mark.parametrize(("drawn", "chosen"), [(answers, 1.0), (by_softmax, 3.0)])
def test_the_area_decides(drawn: Callable[[int], tuple[Floats, NDArray[np.int64]]], chosen: float) -> None:
    log_probabilities, labels = drawn(2000)
    right = log_probabilities.argmax(axis=1) == labels
    orders = np.exp(log_probabilities.max(axis=1)), softmax(3 * log_probabilities, axis=1).max(axis=1)
    by_probability, plain = (area_under_risk_coverage(confidence, right) for confidence in orders)
    assert (plain < by_probability) is (chosen == 3)
    assert choose_order(log_probabilities, labels, 3.0).sharpness == chosen


def test_by_probability_nothing_changes() -> None:
    log_probabilities, _ = answers(50)
    for one, other in zip(Order()(LEVELS, log_probabilities), LEVELS.best(np.exp(log_probabilities)), strict=True):
        np.testing.assert_array_equal(one, other)


@given(st.integers(0, 2**31), st.floats(0.3, 5))
@settings(max_examples=20, deadline=None)
def test_the_order_is_that_of_softmax_and_the_scale_that_of_probabilities(seed: int, temperature: float) -> None:
    log_probabilities, labels = by_softmax(400, seed)
    order = choose_order(log_probabilities, labels, temperature)
    names, confidences = order(LEVELS, log_probabilities)
    np.testing.assert_array_equal(names, LEVELS.best(np.exp(log_probabilities))[0])
    if order.sharpness != 1:
        raised = softmax(temperature * log_probabilities, axis=1).max(axis=1)
        assert (np.diff(confidences[np.argsort(raised, kind="stable"), 0]) >= 0).all()
        probability = np.exp(log_probabilities.max(axis=1))
        np.testing.assert_allclose(np.sort(confidences[:, 0]), np.sort(probability), atol=0.01)
    assert ((confidences >= 0) & (confidences <= 1)).all()


def test_raised_to_the_temperature_answers_are_plain_softmax_if_one_number_scaled_them() -> None:
    """After vector scaling, classes keep what sets them apart."""
    logits = 2 * np.random.default_rng(0).normal(size=(50, 3))
    plain = softmax(logits, axis=1)
    for scaling, same in (
        (Scaling("temperature", np.full(3, 0.4), np.zeros(3)), True),
        (Scaling("vector", np.array([0.3, 0.4, 0.5]), np.array([1.0, 0, -1])), False),
    ):
        raised = softmax(scaling.temperature * scaling(logits), axis=1)
        assert np.allclose(raised, plain) is same


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    """That found softmax to be the better order."""
    log_probabilities, labels = by_softmax(3000)
    logits = (3 * log_probabilities).astype(np.float32)  # too sure
    made = Calibration.fit(
        Held(logits, np.full(3000, 0.9), labels, np.arange(3000)), np.eye(3), LEVELS, source="validation"
    )
    assert made.scaling.kind == "temperature"
    assert made.order.sharpness == pytest.approx(made.scaling.temperature)
    return made


def test_the_order_is_kept_on_disk(calibration: Calibration) -> None:
    again = Calibration.restored(calibration.values(), calibration.arrays())
    log_probabilities, _ = by_softmax(100, seed=1)
    np.testing.assert_allclose(
        again.order(LEVELS, log_probabilities)[1], calibration.order(LEVELS, log_probabilities)[1]
    )
    of_before = {name: value for name, value in calibration.values().items() if name != "sharpness"}
    assert Calibration.restored(of_before, calibration.arrays()).order.sharpness == 1


def test_answers_follow_the_order_and_keep_their_probabilities(calibration: Calibration) -> None:
    """The area is that of maximum softmax; what a verdict calls its certainty stays the calibrated probability."""
    log_probabilities, labels = by_softmax(2000, seed=2)
    logits, near = 3 * log_probabilities, np.full(2000, 0.9)
    found = [
        score_verdicts(Thresholds.of(one, LEVELS, accuracy=0.4), logits, near, labels)
        for one in (calibration, replace(calibration, order=Order()))
    ]
    assert found[0].area[0] < found[1].area[0]
    assert found[0].area[0] == pytest.approx(found[0].area[1])  # it is that of maximum softmax
    verdicts = Thresholds.of(calibration, LEVELS, accuracy=0.4).verdicts(
        ["x"] * 2000, calibration.scaling(logits), near
    )
    given = [v for v in verdicts if v.level == "class" or v.level == "species"]
    assert given
    assert all(v.certainty == pytest.approx(v.probability) for v in given)
