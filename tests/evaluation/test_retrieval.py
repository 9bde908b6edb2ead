"""Retrieval against pytorch-metric-learning's calculator and against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from fieldmark.core.errors import DataError
from fieldmark.evaluation import retrieval as module
from fieldmark.evaluation.retrieval import retrieval


def drawn(seed: int, sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return rng.normal(size=(len(sizes), 6))[labels] + rng.normal(size=(len(labels), 6)), labels


@given(st.integers(0, 99), st.lists(st.integers(2, 15), min_size=2, max_size=6))
def test_it_counts_as_pytorch_metric_learning_does(seed: int, sizes: list[int]) -> None:
    embedding, labels = drawn(seed, sizes)
    theirs = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        knn_func=CustomKNN(CosineSimilarity()),
    ).get_accuracy(torch.tensor(embedding), torch.tensor(labels))
    ours = {name: share.value for name, share in retrieval(embedding, labels).scores().items()}
    assert ours["recall@1"] == pytest.approx(theirs["precision_at_1"])
    assert ours["r_precision"] == pytest.approx(theirs["r_precision"])
    assert ours["map@r"] == pytest.approx(theirs["mean_average_precision_at_r"])


@given(st.integers(0, 99), st.lists(st.integers(1, 6), min_size=2, max_size=5), st.integers(1, 4))
def test_groups_do_not_find_each_other(seed: int, sizes: list[int], bursts: int) -> None:
    embedding, labels = drawn(seed, [2, *sizes])
    rng = np.random.default_rng(seed)
    groups = np.array(["", *map(str, range(bursts))], dtype=object)[rng.integers(0, bursts + 1, len(labels))]
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    expected = {}
    for row in range(len(labels)):
        others = [k for k in range(len(labels)) if k != row and (groups[k] == "" or groups[k] != groups[row])]
        ranked = sorted(others, key=lambda k: -float(unit[row] @ unit[k]))
        if any(labels[k] == labels[row] for k in others):
            expected[row] = [any(labels[k] == labels[row] for k in ranked[:most]) for most in module.KS]
    if not expected:
        with pytest.raises(DataError, match="nothing to find"):
            retrieval(embedding, labels, groups.tolist())
        return
    found = retrieval(embedding, labels, groups.tolist())
    assert dict(zip(found.queries.tolist(), found.recall.tolist(), strict=True)) == expected


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    embedding, labels = drawn(1, [20, 30, 10])
    whole = retrieval(embedding, labels)
    monkeypatch.setattr(module, "_BLOCK", 7)
    parts = retrieval(embedding, labels)
    np.testing.assert_array_equal(whole.queries, parts.queries)
    np.testing.assert_allclose(whole.average_precision, parts.average_precision)


def test_intervals_are_over_classes() -> None:
    # in one class all is found, in the other nothing: what another set of classes would give is anything in between
    embedding = np.array([[1.0, 0.0]] * 10 + [[0.0, 1.0], [0.0, -1.0]])
    labels = np.array([0] * 10 + [1, 1])
    share = retrieval(embedding, labels).scores()["recall@1"]
    assert share.value == pytest.approx(10 / 12)
    assert (share.low, share.high) == (0.0, 1.0)
    assert str(share) == "83.3 % (0.0–100.0)"
