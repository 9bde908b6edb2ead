"""Verification against scikit-learn's ROC and against counting; identification against a loop over searches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from fieldmark.core.errors import DataError, RunError
from fieldmark.evaluation.comparing import Basis
from fieldmark.evaluation.enrolment import Kept
from fieldmark.evaluation.identification import Identification, Reference
from fieldmark.evaluation.outputs import unit
from fieldmark.evaluation.plda import Plda, means_and_counts
from fieldmark.evaluation.verification import Verification, at_rate, promised

WIDTH = 5


def embedded(seed: int, classes: int = 12, images: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and labels of classes that overlap."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), images)
    return rng.normal(size=(classes, WIDTH))[labels] + rng.normal(size=(len(labels), WIDTH)), labels


def drawn(seed: int, classes: int = 12, images: int = 30) -> tuple[np.ndarray, np.ndarray]:
    vectors, labels = embedded(seed, classes, images)
    return vectors @ vectors.T, labels


@given(st.integers(0, 30))
def test_rates_are_those_of_the_roc(seed: int) -> None:
    scores, labels = drawn(seed, 5, 8)
    found = Verification.of(scores, labels)
    far, tar = found.rates()
    theirs_far, theirs_tar, thresholds = roc_curve(found.genuine, found.scores, drop_intermediate=False)
    np.testing.assert_allclose(far, theirs_far[1:])
    np.testing.assert_allclose(tar, theirs_tar[1:])
    np.testing.assert_allclose(found.scores, thresholds[1:])
    eer = found.equal_error_rate()
    assert eer.low <= eer.value <= eer.high
    assert abs(np.interp(eer.value, theirs_far, 1 - theirs_tar) - eer.value) < 0.03


@given(st.integers(0, 30), st.sampled_from([0.02, 0.05, 0.1, 0.3]))
def test_no_more_impostors_are_accepted_than_asked_for(seed: int, rate: float) -> None:
    scores, labels = drawn(seed)
    scores = scores.round()  # many are equal, and are accepted together
    found = Verification.of(scores, labels)
    threshold = found.threshold(rate)
    one, other = np.triu_indices(len(labels), 1)
    impostor = labels[one] != labels[other]
    accepted = scores[one, other] >= threshold
    assert accepted[impostor].mean() <= rate
    lower = np.unique(scores[one, other][~accepted & impostor]).max()
    assert (scores[one, other] >= lower)[impostor].mean() > rate, "one more would be too many"
    point = found.at(threshold)
    assert point.false_accepts.value == pytest.approx(accepted[impostor].mean())
    assert point.true_accepts.value == pytest.approx(accepted[~impostor].mean())
    assert found.num_accepted(threshold) == accepted[impostor].sum()
    for share in (point.false_accepts, point.true_accepts):
        assert share.low <= share.value <= share.high


def test_intervals_cover_other_classes() -> None:
    scores, labels = drawn(1, 200, 6)
    whole = Verification.of(scores, labels)
    threshold = whole.threshold(0.05)
    truth, hits = whole.at(threshold), np.zeros(2)
    for start in range(0, 200, 20):
        rows = np.flatnonzero((labels >= start) & (labels < start + 20))
        point = Verification.of(scores[np.ix_(rows, rows)], labels[rows]).at(threshold)
        for k, (share, true) in enumerate(
            ((point.false_accepts, truth.false_accepts), (point.true_accepts, truth.true_accepts))
        ):
            hits[k] += share.low <= true.value <= share.high
    assert (hits >= 8).all()


def test_an_interval_is_that_of_a_loop() -> None:
    scores, labels = drawn(4, 4, 5)
    found = Verification.of(scores, labels)
    threshold = found.threshold(0.2)
    draws = []
    rng = np.random.default_rng(0)
    for again in rng.integers(4, size=(500, 4)):
        false = [
            scores[i, j] >= threshold
            for a, one in enumerate(again)
            for other in again[a + 1 :]
            if one != other
            for i in np.flatnonzero(labels == one)
            for j in np.flatnonzero(labels == other)
        ]
        if false:
            draws.append(np.mean(false))
    expected = np.quantile(draws, [0.025, 0.975])
    share = found.at(threshold).false_accepts
    assert (share.low, share.high) == pytest.approx(tuple(expected))


def test_nothing_counted_is_not_nothing() -> None:
    scores, labels = drawn(5, 10, 20)
    point = Verification.of(scores, labels).at(scores.max() + 1)
    assert (point.false_accepts.value, point.false_accepts.low) == (0, 0)
    assert point.false_accepts.high == pytest.approx(3 / 100)
    point = Verification.of(scores, labels).at(scores.min() - 1)
    assert (point.true_accepts.value, point.true_accepts.low) == (1, pytest.approx(1 - 3 / 100))


def test_pictures_of_a_group_are_not_compared() -> None:
    scores, labels = drawn(2, 3, 4)
    groups = np.arange(len(labels)) // 2
    found = Verification.of(scores, labels, groups)
    assert len(found.scores) == len(labels) * (len(labels) - 1) // 2 - len(labels) // 2
    scores[0] = scores[:, 0] = np.nan
    assert len(Verification.of(scores, labels, groups).scores) == len(found.scores) - len(labels) + 2


def test_what_few_classes_cannot_show() -> None:
    many, few = (Verification.of(*drawn(0, classes, 10)) for classes in (40, 4))
    rate, point = promised(many)
    assert rate == 0.01
    assert point.false_accepts.high <= 0.03
    assert promised(many, 0.03)[0] == 0.03
    assert not at_rate(few, 0.2)[1], "of four classes, no interval is worth its name"
    with pytest.raises(RunError, match="rate of 5 % cannot be promised from 4 classes: no rate can"):
        promised(few, 0.05)
    some = Verification.of(*drawn(0, 10, 3))
    assert promised(some)[0] > 0.01, "the next rate that can be promised"
    with pytest.raises(RunError, match=r"rate of 0.2 % cannot be promised from 10 classes: the least is \d+ %"):
        promised(some, 0.002)
    for wrong in (0, 1, 2, float("nan")):
        with pytest.raises(RunError, match="is no share"):
            promised(many, wrong)
    with pytest.raises(DataError, match="only the latter"):
        Verification.of(drawn(0, 3, 1)[0], np.arange(3))
    with pytest.raises(DataError, match="only the former"):
        Verification.of(drawn(0, 1, 3)[0], np.zeros(3, np.int64))


def test_a_search_is_answered_as_if_the_photograph_were_new() -> None:
    fitted, known = embedded(3, 30, 10)
    plda = Plda.fit(fitted, known)
    vectors, labels = embedded(4, 6, 4)
    groups = np.arange(len(labels)) // 2
    reference = Reference(vectors, labels, groups)
    scores, own = reference.left_out(plda)
    strangers, right = [], []
    for row in range(len(labels)):
        answers = []
        for k in range(6):
            shown = vectors[(labels == k) & (groups != groups[row])]
            likeness = plda.likeness(
                plda.coordinates(vectors[row : row + 1]),
                plda.coordinates(shown.mean(axis=0, keepdims=True)),
                np.array([len(shown)]),
            )
            answers.append(likeness[0])
        assert own[row] == pytest.approx(answers[labels[row]])
        others = np.delete(answers, labels[row])
        assert np.delete(scores[row], labels[row]) == pytest.approx(others)
        strangers.append(others.max())
        right.append(own[row] if own[row] >= others.max() else -np.inf)
    found = Identification.of(reference, plda)
    assert found.strangers == pytest.approx(np.sort(strangers)[::-1])
    threshold = found.threshold(0.25)
    point = found.at(threshold)
    assert point.false_accepts.value == np.mean(np.array(strangers) >= threshold - 1e-9) <= 0.25
    assert point.true_accepts.value == np.mean(np.array(right) >= threshold)
    assert found.num_classes == 6


def test_one_genuine_article_and_strangers() -> None:
    fitted, known = embedded(5, 30, 10)
    plda = Plda.fit(fitted, known)
    alone = Reference(fitted[:1], np.zeros(1, np.int64), np.zeros(1, np.int64))
    assert Identification.of(alone, plda).num_classes == 0
    assert Identification.of(alone, plda).threshold(0.1) == np.inf
    vectors, labels = embedded(6, 20, 10)
    basis = Basis.measured(plda, vectors, [f"{k:02}" for k in labels], np.arange(len(labels)))
    found = basis.identification(alone, plda)
    assert found.num_classes == 20
    assert np.isnan(found.at(0.0).true_accepts.value), "its only photograph finds nothing but itself"
    without = basis.without(["03", "elsewhere"]).identification(alone, plda)
    assert len(without.strangers) == len(found.strangers) - 10
    assert basis.without(["03"]).size == (190, 19)


def test_one_photograph_is_as_likely_as_a_pair() -> None:
    fitted, known = embedded(7, 30, 10)
    plda = Plda.fit(fitted, known)
    own = plda.coordinates(fitted[:6])
    scores = plda.all_same(own, own)
    reference = Reference(fitted[:6], np.arange(6), np.arange(6))
    np.testing.assert_allclose(reference.likeness(plda, fitted[:6]), scores)
    np.testing.assert_allclose(np.diag(scores), plda.same(own, own))


def test_classes_that_were_learnt_are_compared_by_what_has_not_seen_them() -> None:
    vectors, labels = embedded(8, 30, 12)
    vectors = unit(vectors)
    held = np.arange(len(labels)) % 4 == 0
    means, counts = means_and_counts(vectors[~held], labels[~held], 30)
    half = vectors.astype(np.float16)
    kept = Kept(
        np.zeros((held.sum(), 30), np.float32),
        np.zeros(held.sum()),
        labels[held],
        np.arange(held.sum()),
        half[held],
        means.astype(np.float32),
        counts,
        half[~held],
        labels[~held],
    )
    basis = Basis.learnt(kept, [str(k) for k in range(30)])
    assert sorted(np.concatenate([rows for _, rows in basis.folds])) == list(range(held.sum()))
    for plda, rows in basis.folds:
        gone = np.isin(np.arange(30), basis.labels[rows])
        rest = ~np.isin(labels, basis.labels[rows]) & ~held
        again = Plda.fit(half[rest].astype(np.float64), labels[rest], means.astype(np.float32).astype(np.float64),
                         np.where(gone, 0, counts))  # fmt: skip
        np.testing.assert_allclose(plda.coordinates(vectors[:3]), again.coordinates(vectors[:3]))
    found = basis.verification()
    assert found.num_classes == 30
    assert len(found.scores) == sum(len(rows) * (len(rows) - 1) // 2 for _, rows in basis.folds)
