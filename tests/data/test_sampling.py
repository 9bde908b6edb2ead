"""Orders by class: each class equally often, whole hands, nothing twice while there is enough."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.data.loader import Schedule
from fieldmark.data.sampling import class_order, deal, recurrences


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 20), st.integers(0, 2**31))
def test_dealing(count: int, size: int, hands: int, seed: int) -> None:
    dealt = deal(count, size, hands, rng(seed))
    assert dealt.shape == (hands, size)
    numbers = np.bincount(dealt.ravel(), minlength=count)
    assert len(numbers) == count
    assert numbers.max() - numbers.min() <= 1
    assert all(len(set(hand)) == min(count, size) for hand in dealt.tolist())


def test_hands_differ() -> None:
    assert len({tuple(hand) for hand in deal(8, 4, 20, rng(0)).tolist()}) > 15


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=60),
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 2**31),
)
def test_orders_by_class(labels: list[int], batches: int, classes: int, images: int, seed: int) -> None:
    truth = np.array(labels)
    order = class_order(truth, batches=batches, classes=classes, images=images, rng=rng(seed))
    assert order.shape == (batches, classes * images)
    by_class = np.bincount(truth[order.ravel()], minlength=7)[np.unique(truth)]
    assert by_class.max() - by_class.min() <= images  # each class equally often
    for label in np.unique(truth):
        members = np.bincount(order.ravel(), minlength=len(truth))[truth == label]
        assert members.max() - members.min() <= 1  # and so each image of a class
    for batch in order:
        slots = truth[batch].reshape(classes, images)
        assert (slots == slots[:, :1]).all()
        if len(np.unique(truth)) >= classes:
            assert len(np.unique(slots[:, 0])) == classes
        for slot in batch.reshape(classes, images):
            assert len(np.unique(slot)) == min(images, (truth == truth[slot[0]]).sum())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=20))
def test_recurrences(rows: list[int]) -> None:
    assert recurrences(np.array(rows, np.int64)).tolist() == [rows[:i].count(row) for i, row in enumerate(rows)]


LABELS = np.array([0] * 20 + [1] * 9 + [2] * 3 + [4])  # nobody is of class 3
ROWS = np.arange(100, 100 + len(LABELS))


@pytest.mark.parametrize("images_per_class", [1, 4])
def test_a_schedule_by_class_is_a_function_of_seed_and_step(images_per_class: int) -> None:
    def schedule(seed: int) -> Schedule:
        return Schedule(ROWS, 8, 3, seed, labels=LABELS, images_per_class=images_per_class)

    whole = list(schedule(5).batches(0))
    assert len(whole) == schedule(5).num_steps == 12
    for step in range(12):
        assert list(schedule(5).batches(step)) == whole[step:]
        assert schedule(5).batch(step) == whole[step]
    assert whole != list(schedule(6).batches(0))
    assert whole[:4] != whole[4:8]
    keys = [key for batch in whole for key in batch]
    assert len(set(keys)) == len(keys)  # so each view is another one
    assert {epoch % 3 for epoch, _ in keys[:32]} == {0}
    counts = np.bincount([LABELS[row - 100] for _, row in keys[:32]])
    assert counts.tolist() == [8, 8, 8, 0, 8]


def test_a_batch_is_never_larger_than_the_data_without_need() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    assert [len(b) for b in Schedule(np.arange(5), 32, 2, 0, labels=labels, images_per_class=2).batches(0)] == [4, 4]
    assert [len(b) for b in Schedule(np.arange(5), 32, 2, 0, labels=labels).batches(0)] == [5, 5]
