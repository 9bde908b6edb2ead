"""Doubts: scores against cleanlab's, neighbours against a loop, and what is planted is found."""

from __future__ import annotations

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fieldmark.evaluation.outputs import unit
from fieldmark.labelling import neighbours as counting
from fieldmark.labelling.confidence import from_answers, margin, self_confidence
from fieldmark.labelling.doubts import find_doubts, pooled
from fieldmark.labelling.neighbours import look_alikes, votes
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


def test_what_two_probabilities_leave_is_spread_evenly() -> None:
    labels, predicted = np.array([0, 1]), np.array([2, 1])
    found = from_answers(labels, np.array([0.1, 0.7]), predicted, np.array([0.6, 0.7]), 4)
    assert np.allclose(found, [[0.1, 0.15, 0.6, 0.15], [0.1, 0.7, 0.1, 0.1]])


@given(st.integers(0, 1000), st.integers(1, 30))
def test_votes_are_those_of_a_loop(seed: int, num: int) -> None:
    random = np.random.default_rng(seed)
    embedding, units = random.normal(size=(num, 5)), random.integers(0, max(num // 2, 1), num)
    labels, vectors = random.integers(0, 3, num), unit(embedding)
    found = votes(embedding, labels, units, 3)
    for row in range(num):
        expected = np.zeros(3)
        for other in range(num):
            if units[other] != units[row]:
                expected[labels[other]] += np.exp((float(vectors[row] @ vectors[other]) - 1) / 0.07)
        assert np.allclose(found[row], expected / expected.sum() if expected.any() else 0, atol=1e-4)


def test_votes_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    embedding, labels = blobs()
    whole = votes(embedding, labels, np.arange(80), 4)
    monkeypatch.setattr(counting, "_CHUNK", 7)
    assert np.allclose(votes(embedding, labels, np.arange(80), 4), whole)


def test_nobody_votes_where_all_belong_together() -> None:
    assert np.array_equal(votes(np.eye(3), np.array([0, 1, 0]), np.zeros(3, np.int64), 2), np.zeros((3, 2)))


def test_a_look_alike_is_of_the_class_and_not_of_the_burst() -> None:
    embedding = np.array([[1.0, 0.0], [0.99, 0.1], [0.8, 0.6], [0.0, 1.0]])
    labels, units = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2])
    wanted = np.array([0, 1, 2])
    queries, own = embedding[[0, 0, 0]], units[[0, 0, 0]]
    assert look_alikes(queries, own, embedding, labels, units, wanted).tolist() == [2, 3, -1]


@given(st.integers(0, 200))
def test_a_pool_explains_the_labels_as_well_as_either_witness(seed: int) -> None:
    """The weights are the likeliest, so neither is made worse by the other, in whatever order images come."""
    probabilities, labels = answers(seed)
    voted, _ = answers(seed + 1)
    both = pooled(probabilities, voted, labels)
    assert np.allclose(both.sum(axis=1), 1)

    def nll(values: Floats) -> float:
        return float(-np.log(self_confidence(values, labels).clip(1e-6)).mean())

    assert nll(both) <= min(nll(probabilities), nll(voted)) + 1e-3
    order = np.random.default_rng(seed).permutation(len(labels))
    assert np.allclose(pooled(probabilities[order], voted[order], labels[order]), both[order], atol=1e-3)


def test_a_witness_that_knows_nothing_is_not_heard() -> None:
    _, labels = answers(0, num=400)
    informed = np.full((400, 4), 0.1)
    informed[np.arange(400), labels] = 0.7
    informed[:60] = np.roll(informed[:60], 1, axis=1)  # and errs now and then
    noise = np.random.default_rng(1).dirichlet(np.ones(4), 400)
    both = pooled(informed, noise, labels)
    assert (both.argmax(axis=1) == informed.argmax(axis=1)).mean() > 0.95


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
