"""The linear probe against scikit-learn's own pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler, normalize

from fieldmark.core.errors import TrainingError
from fieldmark.learning.training import probe
from fieldmark.learning.training.probe import LinearHead, fit_linear_head, out_of_fold

Data = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]


def clouds(num_classes: int, per_class: int = 12, width: int = 6, seed: int = 0) -> Data:
    """Features (N, D) whose columns are of very unlike scale, labels (N,), each its own group."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class)
    centres = rng.normal(0, 1.2, (num_classes, width))
    features = (centres[labels] + rng.normal(0, 1, (len(labels), width))) * 10.0 ** np.arange(-2, width - 2) + 3
    return features.astype(np.float32), labels, np.arange(len(labels))


def logits(head: LinearHead, features: NDArray[np.float32]) -> NDArray[np.float64]:
    return features.astype(np.float64) @ head.weight.T.astype(np.float64) + head.bias


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_the_folded_head_answers_as_the_pipeline(num_classes: int) -> None:
    features, labels, groups = clouds(num_classes)
    head = fit_linear_head(features, labels, groups, num_classes)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=head.strength, max_iter=1000, tol=1e-6)).fit(
        features, labels
    )
    others = clouds(num_classes, seed=1)[0]
    for inputs in (features, others):
        answers = logits(head, inputs)
        np.testing.assert_allclose(softmax(answers, axis=1), pipeline.predict_proba(inputs), atol=2e-4)
    assert head.weight.shape == (num_classes, 6)
    assert head.weight.dtype == head.bias.dtype == np.float32


@pytest.mark.parametrize("num_classes", [2, 5])
def test_features_may_be_read_at_unit_length(num_classes: int) -> None:
    features, labels, groups = clouds(num_classes)
    head = fit_linear_head(features, labels, groups, num_classes, reading="unit")
    assert head.strength in probe.STRENGTHS["unit"]
    pipeline = make_pipeline(Normalizer(), LogisticRegression(C=head.strength, max_iter=1000, tol=1e-6))
    pipeline.fit(normalize(features).astype(np.float64), labels)
    others = clouds(num_classes, seed=1)[0]
    answers = logits(head, normalize(others))
    np.testing.assert_allclose(softmax(answers, axis=1), pipeline.predict_proba(others), atol=2e-4)


def test_a_feature_that_never_changes() -> None:
    features, labels, groups = clouds(3)
    features[:, 2] = 4.0
    head = fit_linear_head(features, labels, groups, 3)
    assert np.isfinite(head.weight).all()
    assert (logits(head, features).argmax(1) == labels).mean() > 0.6


def test_the_strength_has_the_most_held_out_rows_right() -> None:
    features, labels, groups = clouds(3, per_class=20)
    strengths = (1e-3, 1e-1, 10.0)
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=5)
    inputs = StandardScaler().fit_transform(features)
    reference = {}
    for c in strengths:
        log_p: NDArray[Any] = cross_val_predict(
            LogisticRegression(C=c, max_iter=1000, tol=1e-6),
            inputs,
            labels,
            groups=groups,
            cv=folds,
            method="predict_log_proba",
        )
        reference[c] = -log_p[np.arange(len(labels)), labels].mean(), (log_p.argmax(1) == labels).mean()
    best = min(strengths, key=lambda c: (-reference[c][1], reference[c][0]))
    head = fit_linear_head(features, labels, groups, 3, strengths=strengths, seed=5)
    assert len({round(nll, 3) for nll, _ in reference.values()}) == 3
    assert head.strength == best
    assert head.accuracy == pytest.approx(reference[best][1])


def test_a_row_counts_as_much_as_its_weight_says() -> None:
    features, labels, groups = clouds(3, per_class=12)
    weights = np.where(np.arange(len(labels)) % 2, 0.25, 1.0)
    head = fit_linear_head(features, labels, groups, 3, reading="unit", weights=weights)
    known = weights == 1
    assert head.strength == fit_linear_head(features[known], labels[known], groups[known], 3, reading="unit").strength
    often = np.repeat(np.arange(len(labels)), np.where(known, 4, 1))
    same = LogisticRegression(C=head.strength / 4, max_iter=1000, tol=1e-6).fit(
        normalize(features)[often], labels[often]
    )
    np.testing.assert_allclose(
        softmax(normalize(features) @ head.weight.T + head.bias, axis=1),
        same.predict_proba(normalize(features)),
        atol=2e-3,
    )


def test_of_very_many_rows_some_are_enough_to_choose_by(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, groups = clouds(3, per_class=40)
    monkeypatch.setattr(probe, "MOST_TO_CHOOSE", 60)
    fitted: list[int] = []
    regression = probe.regression

    def counted(inputs: Any, labels: Any, strength: float, *others: Any, **named: Any) -> LogisticRegression:
        fitted.append(len(labels))
        return regression(inputs, labels, strength, *others, **named)

    monkeypatch.setattr(probe, "regression", counted)
    head = fit_linear_head(features, labels, groups, 3, strengths=(1e-2, 1.0))
    assert max(fitted[:-1]) == 40  # two folds of three
    assert fitted[-1] == 120
    whole = make_pipeline(StandardScaler(), LogisticRegression(C=head.strength, max_iter=1000, tol=1e-6)).fit(
        features, labels
    )
    np.testing.assert_allclose(softmax(logits(head, features), axis=1), whole.predict_proba(features), atol=2e-4)


@pytest.mark.parametrize("present", [[0, 2, 3], [1, 3]])
def test_a_class_without_training_images(present: list[int]) -> None:
    features, labels, groups = clouds(4)
    kept = np.isin(labels, present)
    head = fit_linear_head(features[kept], labels[kept], groups[kept], 4)
    answers = softmax(logits(head, features), axis=1)
    absent = [k for k in range(4) if k not in present]
    assert answers[:, absent].max() < 1e-12
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=head.strength, max_iter=1000, tol=1e-6))
    pipeline.fit(features[kept], labels[kept])
    np.testing.assert_allclose(answers[:, present], pipeline.predict_proba(features), atol=2e-4)


def test_groups_are_never_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    splits: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    class Spy(StratifiedGroupKFold):
        def split(self, *arguments: Any) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
            for train, held in super().split(*arguments):
                splits.append((train, held))
                yield train, held

    monkeypatch.setattr(probe, "StratifiedGroupKFold", Spy)
    features, labels, rows = clouds(3)
    groups = rows // 4  # bursts of four
    fit_linear_head(features, labels, groups, 3, strengths=(1e-2,))
    assert len(splits) == 3
    for train, held in splits:
        assert not set(groups[train]) & set(groups[held])
        assert len(held)
    assert sorted(np.concatenate([held for _, held in splits])) == list(rows)


@pytest.mark.parametrize("per_class", [2, 3, 4])
def test_few_images_are_enough(per_class: int) -> None:
    features, labels, groups = clouds(3, per_class=per_class)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = fit_linear_head(features, labels, groups, 3)
    assert (logits(head, features).argmax(1) == labels).mean() > 0.5


def test_one_class_is_a_single_burst() -> None:
    """Held out, it cannot be answered; the others choose."""
    features, labels, groups = clouds(3)
    groups[labels == 1] = 99
    head = fit_linear_head(features, labels, groups, 3)
    assert (logits(head, features).argmax(1) == labels).mean() > 0.6


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("why", ["one image each", "one burst each"])
def test_where_nothing_can_be_held_out(num_classes: int, why: str) -> None:
    features, labels, groups = clouds(num_classes, per_class=1 if why == "one image each" else 5)
    groups = labels if why == "one burst each" else groups
    head = fit_linear_head(features, labels, groups, num_classes, strengths=(1e-3, 1e-2, 1e-1))
    assert (head.strength, head.accuracy) == (1e-2, None)
    assert (logits(head, features).argmax(1) == labels).mean() > 0.6
    with pytest.raises(TrainingError, match="no class has training images in two separate groups"):
        out_of_fold(features, labels, groups, num_classes)


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_too_small_for_a_number_are_no_problem(classes: int) -> None:
    labels = np.repeat(np.arange(classes), 6)
    features = 50 * np.eye(classes)[labels] + np.random.default_rng(0).normal(size=(len(labels), classes))
    features[0] = 50 * np.eye(classes)[1]  # surely wrong
    found = fit_linear_head(features, labels, np.arange(len(labels)), classes, strengths=(1e9, 1e12))
    assert 0.5 < found.accuracy < 1, "the wrong one is missed"
    assert np.isfinite(found.weight).all()


def test_of_one_class_alone_there_is_nothing_to_learn() -> None:
    """A fold may have no other: of two classes, one may be a single burst."""
    head = fit_linear_head(np.eye(4, 3, dtype=np.float32), np.ones(4, np.int64), np.arange(4), 3)
    assert (np.eye(4, 3) @ head.weight.T + head.bias).argmax(axis=1).tolist() == [1, 1, 1, 1]
    assert head.strength is not None  # None stands for a discriminant


def test_a_weak_penalty_is_fitted_to_its_end() -> None:
    """Two images of each of thirty classes, as any other minimiser has them: stopped early, nine points fewer right."""
    rng = np.random.default_rng(1)
    prototypes = rng.random((30, 256)) ** 3

    def draw(per_class: int) -> NDArray[np.float64]:
        noise = rng.normal(0, 2.5 * prototypes.mean(), (30 * per_class, 256))
        return normalize(np.maximum(0, np.repeat(prototypes, per_class, axis=0) + noise) + 0.2)

    features, labels = draw(2), np.repeat(np.arange(30), 2)
    others, answers = draw(10), np.repeat(np.arange(30), 10)
    strength = 3000.0

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, bias = x[: 30 * 256].reshape(30, 256), x[30 * 256 :]
        log_probabilities = log_softmax(features @ weight.T + bias, axis=1)
        slope = (np.exp(log_probabilities) - np.eye(30)[labels]) * strength
        value = -strength * log_probabilities[np.arange(60), labels].sum() + 0.5 * (weight**2).sum()
        return value, np.concatenate([(slope.T @ features + weight).ravel(), slope.sum(axis=0)])

    found = minimize(loss, np.zeros(30 * 257), jac=True, method="L-BFGS-B", options={"maxiter": 3000, "gtol": 1e-4})
    best = (others @ found.x[: 30 * 256].reshape(30, 256).T + found.x[30 * 256 :]).argmax(axis=1)
    head = fit_linear_head(
        features.astype(np.float32), labels, np.arange(60), 30, reading="unit", strengths=[strength], folds=2
    )
    guesses = logits(head, others.astype(np.float32)).argmax(axis=1)
    assert (guesses == best).mean() > 0.98
    assert abs((guesses == answers).mean() - (best == answers).mean()) < 0.01
