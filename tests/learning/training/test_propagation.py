"""Label propagation against the closed form of its paper, and what it leaves out."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fieldmark.learning.training import propagation
from fieldmark.learning.training.propagation import propagate, tried

Floats = NDArray[np.float64]


def clouds(num_classes: int, per_class: int, seed: int = 0, spread: float = 0.3) -> tuple[Floats, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(num_classes), per_class))
    return np.eye(8)[labels] + spread * rng.normal(size=(len(labels), 8)), labels


def solved(known: Floats, labels: NDArray[np.int64], unknown: Floats, num_classes: int) -> Floats:
    """(1 − α)(I − αS)⁻¹Y, edge by edge."""
    points = np.concatenate([known, unknown])
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    num = len(points)
    joined = np.zeros((num, num))
    for i in range(num):
        order = sorted((j for j in range(num) if j != i), key=lambda j: -float(points[i] @ points[j]))
        for j in order[:5]:
            weight = max(float(points[i] @ points[j]), 0.0) ** 3
            joined[i, j] += weight
            joined[j, i] += weight
    degree = joined.sum(axis=1)
    graph = joined / np.sqrt(np.outer(degree, degree))
    given_labels = np.zeros((num, num_classes))
    given_labels[np.arange(len(labels)), labels] = 1
    return 0.2 * np.linalg.solve(np.eye(num) - 0.8 * graph, given_labels)[len(labels) :]


@given(st.integers(0, 99), st.integers(2, 4), st.integers(4, 9))
def test_it_is_the_solution_of_the_paper(seed: int, num_classes: int, per_class: int) -> None:
    points, labels = clouds(num_classes, per_class, seed)
    known, first = np.unique(labels, return_index=True)
    rest = np.setdiff1d(np.arange(len(labels)), first)
    exact = solved(points[first], known, points[rest], num_classes)
    found = propagate(points[first], known, points[rest], num_classes)
    top = np.sort(exact, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-2 * top[:, -1]
    np.testing.assert_array_equal(found.labels[clear], exact.argmax(axis=1)[clear])
    shares = exact / exact.sum(axis=1, keepdims=True)
    certainty = 1 + (shares * np.log(shares.clip(1e-12))).sum(axis=1) / np.log(num_classes)
    ratio = exact.sum(axis=1) / np.median(exact.sum(axis=1))
    near = abs(ratio - 0.5) < 0.01
    np.testing.assert_allclose(found.certainty[~near], np.where(ratio > 0.5, certainty, 0)[~near], atol=0.02)


@given(st.integers(0, 99), st.sampled_from([1, 7, 1000]))
def test_order_and_blocks_change_nothing(seed: int, chunk: int) -> None:
    points, labels = clouds(3, 8, seed)
    order = np.random.default_rng(seed).permutation(18)
    before = propagate(points[:6], labels[:6], points[6:], 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(propagation, "_CHUNK", chunk)
        after = propagate(points[:6], labels[:6], points[6:][order], 3)
    np.testing.assert_allclose(after.certainty, before.certainty[order], atol=1e-6)
    sure = after.certainty > 0.05
    np.testing.assert_array_equal(after.labels[sure], before.labels[order][sure])


@given(st.integers(0, 99), st.integers(2, 9), st.sampled_from([1, 30, 100, 1000]))
def test_classes_at_a_time_change_nothing(seed: int, num_classes: int, most: int) -> None:
    """Against one array of all photographs and classes, some of which nobody has named."""
    points, drawn = clouds(8, 4, seed)
    labels = drawn[:9] % num_classes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fieldmark.evaluation.blocks._MOST", most)
        found = propagate(points[:9], labels, points[9:], num_classes)
    graph = propagation._graph((points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)).toarray()
    spread = first = np.eye(num_classes)[labels.tolist() + [0] * 23] * (np.arange(32) < 9)[:, None]
    for _ in range(30):
        spread = 0.8 * graph @ spread + 0.2 * first
    spread = spread[9:]
    total = spread.sum(axis=1)
    shares = spread / total.clip(1e-12)[:, None]
    certainty = 1 + (shares * np.log(shares.clip(1e-300))).sum(axis=1) / np.log(max(2, len(np.unique(labels))))
    reached = total > max(0.5 * float(np.median(total)), 1e-12)
    np.testing.assert_allclose(found.certainty, np.where(reached, certainty, 0).clip(0, 1), atol=1e-6)
    top = np.sort(spread, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-6
    np.testing.assert_array_equal(found.labels[clear], spread.argmax(axis=1)[clear])


def test_of_equal_classes_the_first_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldmark.evaluation.blocks._MOST", 1)
    points = np.array([[1.0, 0.5], [1.0, -0.5], [1.0, 0.0]])
    assert propagate(points[:2], np.array([4, 2]), points[2:], 6).labels.tolist() == [2]


def test_many_classes_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldmark.evaluation.blocks._MOST", 2**16)
    monkeypatch.setattr(propagation, "_STEPS", 2)
    points, classes = np.random.default_rng(0).normal(size=(300, 8)), 8_000
    tracemalloc.start()
    try:
        propagate(points[:200], np.arange(200) * 40, points[200:], classes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.5 * len(points) * classes * 8, "of one array of all photographs and classes"


def test_it_follows_the_shape_of_a_class() -> None:
    # two bows: the far end of each is nearer to the label of the other
    angles = np.linspace(0, 0.9 * np.pi, 40)
    bow = np.stack([np.cos(angles), np.sin(angles), np.zeros(40)], axis=1)
    side = np.array([0, 0, 0.5])
    points = np.concatenate([bow + side, bow - side])
    truth = np.repeat([0, 1], 40)
    labelled = np.array([0, 79])
    rest = np.setdiff1d(np.arange(80), labelled)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    nearest = (unit[rest] @ unit[labelled].T).argmax(axis=1)
    found = propagate(points[labelled], truth[labelled], points[rest], 2)
    assert (found.labels == truth[rest]).all()
    assert (nearest == truth[rest]).mean() < 0.7


def test_what_shows_none_of_the_classes_is_left_out() -> None:
    points, labels = clouds(5, 20)
    strange = labels > 2
    labelled = np.array([np.flatnonzero(labels == k)[:2] for k in range(3)]).ravel()
    rest = np.setdiff1d(np.arange(100), labelled)
    found = propagate(points[labelled], labels[labelled], points[rest], 5)
    assert (found.certainty[strange[rest]] > 0).mean() < 0.2
    assert (found.certainty[~strange[rest]] > 0).mean() > 0.9


def test_nothing_like_anything_that_is_known() -> None:
    known, labels = np.eye(8)[[0, 0, 1, 1]], np.array([0, 0, 1, 1])
    found = propagate(known, labels, np.eye(8)[[4, 4, 4, 4, 4, 4, 4]], 2)
    assert (found.certainty == 0).all()
    assert propagate(known, labels, np.eye(8)[:1], 2).labels.tolist() == [0]
    assert len(propagate(known, labels, np.empty((0, 8)), 2).labels) == 0


def test_a_trial_answers_each_image_once() -> None:
    points, labels = clouds(3, 30, spread=0.5)
    some = np.concatenate([np.flatnonzero(labels == k)[:3] for k in range(3)])
    rest = np.setdiff1d(np.arange(90), some)
    trial = tried(points[some], labels[some], np.arange(9), points[rest], 3, strength=30.0, weight=1.0)
    assert trial is not None
    assert trial.images == 9
    assert 0 <= trial.alone <= trial.taught <= 9
    nothing = tried(points[some], labels[some], np.arange(9), points[rest], 3, strength=30.0, weight=0.0)
    assert nothing is not None
    assert nothing.alone == nothing.taught == trial.alone
    first = some[::3]
    assert tried(points[first], labels[first], np.arange(3), points[rest], 3, strength=30.0, weight=1.0) is None
