"""Doubts: scores against cleanlab's, neighbours against a loop, and what is planted is found."""

from __future__ import annotations

import numpy as np
import pytest
from cleanlab.count import get_confident_thresholds
from cleanlab.rank import get_label_quality_scores
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fieldmark.labelling.confidence import from_answers, margin, self_confidence, thresholds
from fieldmark.labelling.doubts import doubtfulness, find_doubts
from fieldmark.labelling.neighbours import look_alikes, neighbours, unit, votes
from fieldmark.learning.training.probe import out_of_fold

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def answers(seed: int, num: int = 40, classes: int = 4) -> tuple[Floats, Ints]:
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, num - classes)])
    return random.dirichlet(np.ones(classes), num), labels


def blobs(seed: int = 0, each: int = 20, spread: float = 0.35) -> tuple[Floats, Ints]:
    """Embeddings of four classes around four corners."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), each)
    return np.eye(4, 8)[labels] + spread * random.normal(size=(len(labels), 8)), labels


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_cleanlab(seed: int) -> None:
    probabilities, labels = answers(seed)
    own = get_label_quality_scores(labels, probabilities, method="self_confidence")
    assert np.allclose(self_confidence(probabilities, labels), own)
    normalised = get_label_quality_scores(labels, probabilities, method="normalized_margin")
    assert np.allclose((margin(probabilities, labels) + 1) / 2, normalised)
    assert np.allclose(thresholds(probabilities, labels), get_confident_thresholds(labels, probabilities))


def test_what_two_probabilities_leave_is_spread_evenly() -> None:
    labels, predicted = np.array([0, 1]), np.array([2, 1])
    found = from_answers(labels, np.array([0.1, 0.7]), predicted, np.array([0.6, 0.7]), 4)
    assert np.allclose(found, [[0.1, 0.15, 0.6, 0.15], [0.1, 0.7, 0.1, 0.1]])


@given(st.integers(0, 1000), st.integers(2, 30), st.integers(1, 5))
def test_neighbours_are_those_of_a_loop(seed: int, num: int, several: int) -> None:
    random = np.random.default_rng(seed)
    embedding, units = random.normal(size=(num, 5)), random.integers(0, max(num // 2, 1), num)
    found, vectors = neighbours(embedding, units, several), unit(embedding)
    for row in range(num):
        others = [other for other in range(num) if units[other] != units[row]]
        nearest = sorted(others, key=lambda other: -float(vectors[row] @ vectors[other]))[: found.rows.shape[1]]
        kept = found.rows[row][found.rows[row] >= 0]
        assert set(kept) <= set(others)
        assert np.allclose(vectors[row] @ vectors[kept].T, vectors[row] @ vectors[nearest].T, atol=1e-6)


def test_nobody_votes_where_all_belong_together() -> None:
    near = neighbours(np.eye(3), np.zeros(3, np.int64))
    assert np.array_equal(votes(near, np.array([0, 1, 0]), 2), np.zeros((3, 2)))


@given(st.integers(0, 1000))
def test_votes_are_shares(seed: int) -> None:
    random = np.random.default_rng(seed)
    voted = votes(neighbours(random.normal(size=(12, 3)), np.arange(12)), random.integers(0, 3, 12), 3)
    assert np.allclose(voted.sum(axis=1), 1)


def test_a_look_alike_is_of_the_class_and_not_of_the_burst() -> None:
    embedding = np.array([[1.0, 0.0], [0.99, 0.1], [0.8, 0.6], [0.0, 1.0]])
    labels, units = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2])
    wanted = np.array([0, 1, 2])
    queries, own = embedding[[0, 0, 0]], units[[0, 0, 0]]
    assert look_alikes(queries, own, embedding, labels, units, wanted).tolist() == [2, 3, -1]


@given(st.integers(0, 1000))
def test_doubtfulness_knows_no_scale(seed: int) -> None:
    """It is a rank: whatever order the images come in, and wherever classes are numbered otherwise."""
    probabilities, labels = answers(seed)
    voted, _ = answers(seed + 1)
    scores = doubtfulness(probabilities, voted, labels)
    assert scores.min() >= 0
    assert scores.max() <= 1
    order = np.random.default_rng(seed).permutation(len(labels))
    assert np.allclose(doubtfulness(probabilities[order], voted[order], labels[order]), scores[order])


def test_planted_mistakes_come_first() -> None:
    embedding, labels = blobs()
    spoilt = np.array([3, 25, 47, 70])
    given_ = labels.copy()
    given_[spoilt] = (labels[spoilt] + 1) % 4
    probabilities = out_of_fold(embedding.astype(np.float32), given_, np.arange(80), 4)
    found = find_doubts(probabilities, embedding, given_, np.arange(80))
    assert {doubt.row for doubt in found[:4]} == set(spoilt.tolist())
    for doubt in found[:4]:
        assert doubt.candidates[0] == labels[doubt.row]
        assert given_[doubt.other] == labels[doubt.row]
        assert given_[doubt.same] == given_[doubt.row]
        assert doubt.belief < 0.5
    assert [doubt.score for doubt in found] == sorted((doubt.score for doubt in found), reverse=True)


def test_labels_that_all_agree_with_are_not_doubted() -> None:
    embedding, labels = blobs(spread=0.01)
    probabilities = out_of_fold(embedding.astype(np.float32), labels, np.arange(80), 4)
    assert find_doubts(probabilities, embedding, labels, np.arange(80)) == []


def test_a_class_of_one_burst_is_not_doubted() -> None:
    """No model has learnt it without the image itself."""
    embedding, labels = blobs()
    labels, units = labels.copy(), np.arange(80)
    labels[:3], units[:3] = 4, 0
    probabilities = out_of_fold(embedding.astype(np.float32), labels, units, 5)
    assert not {0, 1, 2} & {doubt.row for doubt in find_doubts(probabilities, embedding, labels, units)}


def test_a_burst_has_no_voice_in_its_own_case() -> None:
    """Three frames of one wrongly labelled burst would vouch for each other."""
    embedding, labels = blobs()
    labels, units = labels.copy(), np.arange(80)
    labels[:3], units[:3] = 1, 0
    embedding[1:3] = embedding[0] + 0.001
    probabilities = out_of_fold(embedding.astype(np.float32), labels, units, 4)
    assert {doubt.row for doubt in find_doubts(probabilities, embedding, labels, units)[:3]} == {0, 1, 2}
