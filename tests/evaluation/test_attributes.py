"""Balanced accuracy against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from fieldmark.evaluation.attributes import attribute_score


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(1, 50), st.integers(0, 2**31))
def test_it_is_scikit_learns_where_the_value_is_known(num_values: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, codes = rng.normal(size=(count, num_values)), rng.integers(-1, num_values, size=count)
    found = attribute_score(logits, codes)
    known = codes >= 0
    if not known.any():
        assert found is None
        return
    assert found is not None
    assert found.num_images == known.sum()
    answers, score = logits[known].argmax(1), found.balanced_accuracy
    recall = [np.mean(answers[codes[known] == value] == value) for value in set(codes[known].tolist())]
    assert score.value == pytest.approx(np.mean(recall))
    if set(answers) <= set(codes[known].tolist()) and len(recall) > 1:  # scikit-learn warns of other cases
        assert score.value == pytest.approx(balanced_accuracy_score(codes[known], answers))
    assert score.low <= score.value <= score.high


def test_all_right_is_no_certainty() -> None:
    found = attribute_score(np.eye(2)[[0, 1, 0, 1, 0]], np.array([0, 1, 0, 1, 0]))
    assert found is not None
    assert found.balanced_accuracy.value == found.balanced_accuracy.high == 1
    assert found.balanced_accuracy.low < 0.6
