"""Distances in the tree against a walk up to the common ancestor."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.evaluation.metrics import wilson
from fieldmark.evaluation.severity import severity, tree_distances

TAXONOMY = {
    "genus": ("larus", "larus", "sterna", "corvus", "pica"),
    "family": ("gulls", "gulls", "gulls", "crows", "crows"),
    "kingdom": ("animals",) * 5,  # no step
}


def climbed(answer: int, label: int) -> int:
    """Steps from the class to the first name that both are under."""
    chains = [[f"class {k}", TAXONOMY["genus"][k], TAXONOMY["family"][k], "root"] for k in (answer, label)]
    return next(steps for steps, (a, b) in enumerate(zip(*chains, strict=True)) if a == b)


def test_it_is_the_height_of_the_lowest_common_ancestor() -> None:
    answers, labels = (axis.ravel() for axis in np.meshgrid(np.arange(5), np.arange(5)))
    found = tree_distances(TAXONOMY, answers, labels)
    assert found.tolist() == [climbed(a, b) for a, b in zip(answers, labels, strict=True)]
    assert sorted(set(found.tolist())) == [0, 1, 2, 3]


def test_over_all_images_and_over_mistakes() -> None:
    answers, labels = np.array([0, 1, 1, 3, 4, 2]), np.array([0, 0, 1, 0, 3, 2])
    found = severity(TAXONOMY, answers, labels)
    assert found["tree_distance"].value == pytest.approx((1 + 3 + 2) / 6)
    assert found["mistake_severity"].value == pytest.approx((1 + 3 + 2) / 3)
    for score in found.values():
        assert score.low <= score.value <= score.high
    assert found["mistake_severity"].low >= 1
    assert found["mistake_severity"].high <= 3


def test_where_all_are_right_no_mistake_has_a_severity() -> None:
    labels = np.arange(5)
    found = severity(TAXONOMY, labels, labels)
    assert list(found) == ["tree_distance"]
    assert found["tree_distance"].value == 0
    assert found["tree_distance"].low == 0
    assert found["tree_distance"].high == pytest.approx(3 * wilson(0, 5).high)  # all that were not seen, at the root


def test_one_mistake_does_not_say_how_severe_the_next_one_is() -> None:
    found = severity(TAXONOMY, np.array([0, 1]), np.array([1, 1]))["mistake_severity"]
    unseen = wilson(0, 1).high
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1 + 2 * unseen))
