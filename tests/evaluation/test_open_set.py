"""Open-set identification against searches one by one and scikit-learn's AUROC."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from fieldmark.core.errors import DataError
from fieldmark.evaluation import open_set as module
from fieldmark.evaluation.open_set import OpenSet, open_set


def drawn(seed: int, sizes: list[int], bursts: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    embedding = rng.normal(size=(len(sizes), 6))[labels] + rng.normal(size=(len(labels), 6))
    numbers = rng.integers(0, bursts + 1, len(labels))
    groups = [f"{label} {burst}" if burst else "" for label, burst in zip(labels, numbers, strict=True)]
    return embedding, labels, groups


@given(st.integers(0, 99), st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(1, 4))
def test_it_finds_what_searches_one_by_one_find(seed: int, sizes: list[int], bursts: int) -> None:
    embedding, labels, groups = drawn(seed, sizes, bursts)
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    known, right, strangers = [], [], []
    for row in range(len(labels)):
        others = [k for k in range(len(labels)) if k != row and (groups[k] == "" or groups[k] != groups[row])]
        best = max(others, key=lambda k, row=row: float(unit[row] @ unit[k]))  # type: ignore[misc]  # the default keeps this round's row
        strangers.append(max(float(unit[row] @ unit[k]) for k in others if labels[k] != labels[row]))
        if any(labels[k] == labels[row] for k in others):
            known.append(float(unit[row] @ unit[best]))
            right.append(labels[best] == labels[row])
    if not known:
        with pytest.raises(DataError, match="Nobody is known"):
            open_set(embedding, labels, groups)
        return
    found = open_set(embedding, labels, groups)
    np.testing.assert_allclose(found.other, strangers, atol=1e-6)
    scores = found._values(np.ones(len(labels)))
    assert scores[0] == pytest.approx(np.mean(right))
    told = [1] * len(known) + [0] * len(strangers)
    exact = np.concatenate([np.maximum(found.own, found.other)[found.is_known], found.other])
    assert scores[1] == pytest.approx(roc_auc_score(told, exact))
    for rate, missed in zip(module.RATES, scores[2:], strict=True):
        refused = max(t for t in found.other if np.mean(found.other >= t) > rate)
        named = [r and k > refused for k, r in zip(found.own[found.is_known], right, strict=True)]
        assert missed == pytest.approx(1 - np.mean(named))


@given(st.integers(0, 99), st.integers(2, 5))
def test_to_count_twice_is_to_be_there_twice(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), 4)
    found = OpenSet(labels, *rng.normal(size=(2, len(labels))))
    times = rng.integers(0, 3, classes).astype(float)[labels]
    times[labels == 0] += 1
    rows = np.repeat(np.arange(len(labels)), times.astype(int))
    again = OpenSet(labels[rows], found.own[rows], found.other[rows])
    assert found._values(times) == pytest.approx(again._values(np.ones(len(rows))))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    embedding, labels, groups = drawn(1, [20, 30, 10], 3)
    whole = open_set(embedding, labels, groups)
    monkeypatch.setattr(module, "_BLOCK", 7)
    parts = open_set(embedding, labels, groups)
    np.testing.assert_allclose(parts.own, whole.own)
    np.testing.assert_allclose(parts.other, whole.other)


def test_perfect_and_hopeless() -> None:
    labels = np.repeat(np.arange(30), 4)
    apart = OpenSet(labels, np.full(120, 0.9), np.full(120, 0.1)).scores()
    assert {name: share and (share.value, share.low, share.high) for name, share in apart.items()} == {
        "known": (1, 0.9, 1),  # 30 classes without a mistake show no more than that
        "auroc": (1, 0.9, 1),
        "fnir@0.01": (0, 0, 0.1),
        "fnir@0.05": (0, 0, 0.1),
    }
    alike = OpenSet(labels, np.full(120, 0.5), np.full(120, 0.5)).scores()
    assert {name: share and share.value for name, share in alike.items()} == {
        "known": 0,
        "auroc": 0.5,
        "fnir@0.01": 1,
        "fnir@0.05": 1,
    }


def test_too_few_strangers_show_no_low_rate() -> None:
    embedding, labels, _ = drawn(0, [15, 15], 1)
    scores = open_set(embedding, labels).scores(replicates=50)
    assert scores["fnir@0.01"] is None
    assert scores["fnir@0.05"] is not None


def test_strangers_are_of_another_label() -> None:
    with pytest.raises(DataError, match="at least two labels"):
        open_set(np.eye(4), np.zeros(4, np.int64))
    with pytest.raises(DataError, match="some pictures have none of another label"):
        open_set(np.eye(4), np.array([0, 0, 1, 1]), ["a", "", "a", "a"])
