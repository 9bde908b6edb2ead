"""How far answers are from the truth, with intervals."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.metrics import wilson
from fieldmark.evaluation.severity import severity

TAXONOMY = Taxonomy.of(
    "abcde",
    {
        "genus": ("larus", "larus", "sterna", "corvus", "pica"),
        "family": ("gulls", "gulls", "gulls", "crows", "crows"),
        "kingdom": ("animals",) * 5,  # no step
    },
)


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
