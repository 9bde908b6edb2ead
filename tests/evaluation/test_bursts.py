"""Frames of one event: neither one look nor many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from fieldmark.evaluation.bursts import DEPENDENT, fit_power, pool


def test_pooling_by_hand() -> None:
    frames = np.log([[0.8, 0.2], [0.5, 0.5], [0.3, 0.7]])
    groups = np.array([1, 1, 0])
    product = np.array([0.4, 0.1])
    root = np.sqrt(product)
    assert np.exp(pool(frames, groups, 1.0)) == pytest.approx(np.array([[0.3, 0.7], product / product.sum()]))
    assert np.exp(pool(frames, groups, 0.0)) == pytest.approx(np.array([[0.3, 0.7], root / root.sum()]))


@given(st.integers(1, 9), st.floats(0, 1))
def test_a_frame_repeated(times: int, power: float) -> None:
    """Repeating a frame changes nothing where frames are dependent, and never which class is first."""
    frame = np.log([[0.5, 0.3, 0.2]])
    frames, groups = np.repeat(frame, times, axis=0), np.zeros(times, np.int64)
    assert pool(frames, groups, 0.0) == pytest.approx(frame)
    pooled = pool(frames, groups, power)[0]
    assert (np.diff(pooled) < 0).all()
    assert pooled == pytest.approx(log_softmax(frame[0] * times**power))


def test_a_class_that_one_frame_excludes() -> None:
    frames = np.array([[0.0, -np.inf], [np.log(0.5), np.log(0.5)]])
    assert np.isfinite(pool(frames, np.array([0, 0]), 0.0)).all()


def bursts(shared: float, seed: int = 0, groups: int = 600, frames: int = 4) -> tuple[np.ndarray, ...]:
    """Log-probabilities of frames that share so much of their noise, calibrated one by one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=groups)
    common = rng.normal(size=(groups, 1, 5))
    own = rng.normal(size=(groups, frames, 5))
    noise = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
    evidence = 1.2 * np.eye(5)[labels][:, None] + noise  # Gaussian with unit variance: 1.2 × is the log-likelihood
    of = np.repeat(np.arange(groups), frames)
    return log_softmax(1.2 * evidence.reshape(-1, 5), axis=1), np.repeat(labels, frames), of


def test_the_power_follows_the_dependence() -> None:
    powers = [fit_power(*bursts(shared)) for shared in (0.0, 0.3, 1.0)]
    assert powers[0] > 0.9  # independent witnesses
    assert powers[2] < 0.1  # one look, many times
    assert powers[2] < powers[1] < powers[0]


def test_where_there_is_nothing_to_fit() -> None:
    log_probabilities, labels, of = bursts(0.0, groups=30)
    assert fit_power(log_probabilities, labels, np.arange(len(labels))) == DEPENDENT  # no bursts
    assert fit_power(log_probabilities[:40], labels[:40], of[:40]) == DEPENDENT  # ten groups
    mixed = labels.copy()
    mixed[::4] = (mixed[::4] + 1) % 5
    assert fit_power(log_probabilities, mixed, of) == DEPENDENT  # their frames show different things
