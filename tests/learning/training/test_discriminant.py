"""The discriminant that stands in for a logistic regression: against scikit-learn, and where it takes its place."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from fieldmark.learning.training import discriminant, probe
from fieldmark.learning.training.discriminant import fit_discriminant
from fieldmark.learning.training.probe import fit_linear_head, out_of_fold


def clouds(num_classes: int = 12, each: int = 8, width: int = 20) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features (N, D) around a centre for each class, and labels (N,)."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(num_classes), each)
    stretched = rng.normal(size=(len(labels), width)) * np.linspace(0.2, 2, width)
    features = rng.normal(size=(num_classes, width))[labels] + stretched
    return features.astype(np.float32), labels


@pytest.mark.parametrize("shrinkage", discriminant._SHRINKAGES)
def test_as_scikit_learn_has_it(shrinkage: float, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds()
    monkeypatch.setattr(discriminant, "_UNMEASURED", shrinkage)
    one_group = np.zeros(len(labels), np.int64)  # nothing can be held out
    found = fit_discriminant(features, labels, one_group, 12)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(features.astype(float), labels)
    assert found.accuracy is None
    assert found.weight == pytest.approx(reference.coef_, abs=1e-5)
    assert found.bias == pytest.approx(reference.intercept_, abs=1e-5)


def test_a_weight_counts_as_repeating_does() -> None:
    features, labels = clouds()
    twice = np.where(labels < 6, 2, 1)
    group = np.zeros(len(labels), np.int64)
    weighed = fit_discriminant(features, labels, group, 12, weights=twice)
    repeated = fit_discriminant(np.repeat(features, twice, 0), np.repeat(labels, twice), np.repeat(group, twice), 12)
    assert weighed.weight == pytest.approx(repeated.weight, abs=1e-6)
    assert weighed.bias == pytest.approx(repeated.bias, abs=1e-6)


def test_too_much_for_a_logistic_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(each=20)
    groups = np.arange(len(labels))
    regressed = fit_linear_head(features, labels, groups, 13)
    monkeypatch.setattr(probe, "_MOST_WORK", 1e4)
    monkeypatch.setattr(probe, "regression", None)  # it is not even asked
    solved = fit_linear_head(features, labels, groups, 13)
    assert regressed.strength is not None
    assert solved.strength is None
    assert solved.accuracy is not None
    assert regressed.accuracy is not None
    assert solved.accuracy > regressed.accuracy - 0.1
    right = (features @ solved.weight.T + solved.bias).argmax(axis=1) == labels
    assert right.mean() > 0.95
    assert solved.bias[12] < -1e3, "a class without images is all but impossible"


def test_out_of_fold_by_discriminants(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(each=20)
    monkeypatch.setattr(probe, "_MOST_WORK", 1e4)
    found = out_of_fold(features, labels, np.arange(len(labels)), 13)
    assert found.sum(axis=1) == pytest.approx(1)
    assert (found.argmax(axis=1) == labels).mean() > 0.8
    assert (found[:, 12] == 0).all(), "a class without images"


def test_a_class_whose_images_hardly_differ_keeps_its_bias() -> None:
    """The bias of a class with tight images may be far below that which a class without images once had."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(40, 64)), 2, axis=0) + 0.01 * rng.normal(size=(80, 64))
    labels = np.repeat(np.arange(80), 8)
    features = centres[labels] + 1e-3 * rng.normal(size=(640, 64))
    found = fit_discriminant(features, labels, np.arange(640), 81)
    asked = centres[labels] + 1e-3 * rng.normal(size=(640, 64))
    logits = asked @ found.weight.T + found.bias
    assert found.bias[:80].min() < -1e4
    assert (logits.argmax(axis=1) == labels).mean() > 0.99
    assert (logits[:, 80] < logits[:, :80].max(axis=1) - 1e3).all()
