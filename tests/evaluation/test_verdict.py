"""One image's answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fieldmark.evaluation.verdict import verdict

CLASSES = tuple("abcdefg")
LOGITS = arrays(np.float32, 7, elements=st.floats(-50, 50, width=32))
ROWS = st.sets(st.integers(0, 6), min_size=1).map(lambda rows: np.array(sorted(rows)))


def by_example() -> NDArray[np.float32]:
    return np.log([0.05, 0.4, 0.1, 0.2, 0.15, 0.06, 0.04]).astype(np.float32) + 3


def test_by_example() -> None:
    answer = verdict("x.jpg", by_example(), CLASSES, most=3)
    assert (answer.path, answer.label, answer.outside) == ("x.jpg", "b", None)
    assert answer.probability == pytest.approx(0.4)
    assert [c.label for c in answer.candidates] == ["b", "d", "e"]
    assert [c.probability for c in answer.candidates] == pytest.approx([0.4, 0.2, 0.15])
    assert repr(answer) == "Verdict(x.jpg: likely b, not vouched for 40.0 %; then d 20 %, e 15 %)"


def test_a_checklist_by_example() -> None:
    answer = verdict("x.jpg", by_example(), CLASSES, among=np.array([0, 3, 4]))
    assert [c.label for c in answer.candidates] == ["d", "e", "a"]
    assert [c.probability for c in answer.candidates] == pytest.approx([0.5, 0.375, 0.125])
    assert answer.outside == pytest.approx(0.6)


def test_plain_values() -> None:
    values = verdict("x.jpg", by_example(), CLASSES, most=2).as_dict()
    assert json.loads(json.dumps(values)) == {
        "path": "x.jpg",
        "label": "b",
        "probability": 0.4,
        "candidates": [{"label": "b", "probability": 0.4}, {"label": "d", "probability": 0.2}],
        "promised": None,
    }
    assert verdict("x.jpg", by_example(), CLASSES, among=np.array([1, 3])).as_dict()["outside"] == 0.4


@given(LOGITS, st.integers(1, 10))
def test_candidates_are_the_likeliest(logits: NDArray[np.float32], most: int) -> None:
    answer = verdict("x.jpg", logits, CLASSES, most=most)
    exact = np.exp(logits.astype(np.float64) - logits.max())
    exact /= exact.sum()
    order = sorted(range(7), key=lambda k: (-exact[k], k))  # of equals the first
    assert [c.label for c in answer.candidates] == [CLASSES[k] for k in order[:most]]
    np.testing.assert_allclose([c.probability for c in answer.candidates], np.sort(exact)[::-1][:most], atol=1e-12)
    assert (answer.label, answer.probability) == (answer.candidates[0].label, answer.candidates[0].probability)


@given(LOGITS, ROWS)
def test_a_checklist_keeps_the_odds_within(logits: NDArray[np.float32], among: NDArray[np.int64]) -> None:
    answer = verdict("x.jpg", logits, CLASSES, among=among, most=7)
    whole = {c.label: c.probability for c in verdict("x.jpg", logits, CLASSES, most=7).candidates}
    assert {c.label for c in answer.candidates} == {CLASSES[k] for k in among}
    assert sum(c.probability for c in answer.candidates) == pytest.approx(1)
    inside = sum(whole[CLASSES[k]] for k in among)
    assert answer.outside == pytest.approx(1 - inside, abs=1e-9)
    for candidate in answer.candidates:
        assert candidate.probability * inside == pytest.approx(whole[candidate.label], abs=1e-9)


@given(LOGITS)
def test_a_checklist_of_all_classes_changes_nothing(logits: NDArray[np.float32]) -> None:
    plain, listed = (verdict("x.jpg", logits, CLASSES, among=among) for among in (None, np.arange(7)))
    assert plain.candidates == listed.candidates
    assert listed.outside == pytest.approx(0, abs=1e-12)


def test_logits_too_large_for_an_exponential() -> None:
    answer = verdict("x.jpg", np.array([3e4, -3e4, 3e4 + 1], np.float32), CLASSES[:3])
    assert answer.label == "c"
    assert answer.probability == pytest.approx(1 / (1 + np.exp(-1)))
