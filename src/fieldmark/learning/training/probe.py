"""A linear head by logistic regression on frozen features: the "linear probe".

Alain & Bengio, "Understanding intermediate layers using linear classifier probes" (2017). Features are read either
standardised, which is folded into the head afterwards, or divided by their length, which a head with `unit` does
itself. So a probe ships as any other model.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler, normalize

from fieldmark.core.errors import TrainingError
from fieldmark.learning.training.discriminant import fit_discriminant

__all__ = [
    "ROUGH",
    "STRENGTHS",
    "LinearHead",
    "Reading",
    "fit_linear_head",
    "held_out_folds",
    "out_of_fold",
    "regression",
]

Reading = Literal["standardised", "unit"]

STRENGTHS: Mapping[Reading, Sequence[float]] = {
    "standardised": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "unit": (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0),
}
"""The values from which C is chosen, for each way of reading features."""
_PRECISE, ROUGH = 1e-6, 1e-4
"""The gradient at which a fit ends. Its loss is a mean, in which a weak penalty is small: at the rough one, a fit to
few images may end after a leap past the solution, with 36 % right where the solution has 51. For the choice of C it is
near enough, since such a leap shows there. The precise one is below the rounding of single precision."""
_IMPOSSIBLE = -1e4
"""The bias of a class without a training image."""
_MOST_WORK = 2e11
"""Multiplications that all fits of a choice and of its result take in each of their steps, of which there are up to
300. With more, which is some half an hour on one core, there is a discriminant instead."""
MOST_TO_CHOOSE = 10_000
"""The largest number of rows on which C is chosen: more change the choice little and take many minutes."""


class LinearHead(NamedTuple):
    """logits = weight @ feature + bias, of features as they are or of unit length, as they were read."""

    weight: NDArray[np.float32]
    """(K, D)."""
    bias: NDArray[np.float32]
    """(K,)."""
    strength: float | None
    """The chosen C; None for a discriminant."""
    accuracy: float | None
    """The accuracy in cross-validation on the training rows, with that C; None where no row can be held out."""


def fit_linear_head(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    num_classes: int,
    *,
    reading: Reading = "standardised",
    weights: NDArray[np.floating] | None = None,
    folds: int = 3,
    strengths: Sequence[float] | None = None,
    seed: int = 0,
) -> LinearHead:
    """Fit a head to features (N, D) and labels (N,); C by cross-validation that never parts a group (N,).

    A row counts as much as its weight (N,) says. Those that count less than one are pseudo-labels, which choose no C.
    C is the one with the most held-out rows right, of equals the likeliest, among `MOST_TO_CHOOSE` rows at most. (The
    likeliest of all would be larger: it is better calibrated, which a temperature can mend later, and right less often,
    which nothing can.) Where no row can be held out, it is the one in the middle. Classes without a training image get
    a bias that makes them all but impossible. Of so many images of so many classes that this would take hours, the head
    is a discriminant (`fieldmark.learning.training.discriminant`).
    """
    mean, scale = np.zeros(features.shape[1]), np.ones(features.shape[1])
    if reading == "unit":
        inputs = normalize(features)
    else:
        scaler = StandardScaler().fit(features)
        mean, scale, inputs = scaler.mean_, scaler.scale_, scaler.transform(features)
    tried = strengths or STRENGTHS[reading]
    if len(only := np.unique(labels)) == 1:  # as a fold may have of two classes: there is nothing to tell apart
        bias = np.where(np.arange(num_classes) == only[0], 0.0, _IMPOSSIBLE)
        return _head(np.zeros((num_classes, features.shape[1])), bias, mean, scale, tried[len(tried) // 2], None)
    if _work(len(labels), len(np.unique(labels)), features.shape[1], folds, len(tried)) > _MOST_WORK:
        solved = fit_discriminant(inputs, labels, groups, num_classes, weights=weights, seed=seed)
        return _head(solved.weight, solved.bias, mean, scale, None, solved.accuracy)
    known = np.arange(len(labels)) if weights is None else np.flatnonzero(weights >= 1)
    few = np.sort(np.random.default_rng(seed).permutation(known)[:MOST_TO_CHOOSE])
    splits = held_out_folds(labels[few], groups[few], folds, seed)
    held_out = {c: found for c in tried if (found := _cross_validated(inputs[few], labels[few], splits, c))}
    strength = min(held_out, key=lambda c: (-held_out[c][1], held_out[c][0]), default=tried[len(tried) // 2])
    model = regression(inputs, labels, strength, weights)
    weight = np.zeros((num_classes, features.shape[1]))
    bias = np.full(num_classes, _IMPOSSIBLE)
    present = model.classes_
    rows, offsets = model.coef_, model.intercept_
    if len(present) == 2:  # scikit-learn keeps the difference only
        rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
    weight[present], bias[present] = rows, offsets
    return _head(weight, bias, mean, scale, strength, held_out[strength][1] if held_out else None)


def _head(
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    strength: float | None,
    accuracy: float | None,
) -> LinearHead:
    """The head for features as they are, from that for (features − mean) / scale."""
    weight = weight / scale
    bias = bias - weight @ mean
    return LinearHead(weight.astype(np.float32), bias.astype(np.float32), strength, accuracy)


def _work(num_rows: int, num_classes: int, width: int, folds: int, strengths: int) -> float:
    """Multiplications in each step of all fits; see `_MOST_WORK`."""
    chosen_on = min(num_rows, MOST_TO_CHOOSE) * (folds - 1) * (strengths if strengths > 1 else 0)
    return float((num_rows + chosen_on) * num_classes * width)


def out_of_fold(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    num_classes: int,
    *,
    reading: Reading = "unit",
    folds: int = 5,
    strengths: Sequence[float] | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """(N, K) probabilities of each row by a head that has not seen its group; see `fit_linear_head`.

    C is chosen once, on all rows; where there is none, each head is a discriminant. A class of which a fold has learnt
    nothing has the probability 0 there. Raises TrainingError where no row can be held out.
    """
    splits = held_out_folds(labels, groups, folds, seed)
    if not splits:
        raise TrainingError(
            "Nothing can be cross-validated: no class has training images in two separate groups",
            "Add training images.",
        )
    inputs = normalize(features) if reading == "unit" else StandardScaler().fit_transform(features)
    strength = fit_linear_head(
        features, labels, groups, num_classes, reading=reading, strengths=strengths, seed=seed
    ).strength
    found = np.full((len(labels), num_classes), 1 / num_classes)
    for train, held in splits:
        if strength is None:
            solved = fit_discriminant(inputs[train], labels[train], groups[train], num_classes, seed=seed)
            found[held] = softmax(inputs[held] @ solved.weight.T + solved.bias, axis=1)
        elif len(np.unique(labels[train])) > 1:
            model = regression(inputs[train], labels[train], strength)
            found[held] = 0
            found[np.ix_(held, model.classes_)] = model.predict_proba(inputs[held])
    return found


def regression(
    inputs: NDArray[np.float32],
    labels: NDArray[np.int64],
    strength: float,
    weights: NDArray[np.floating] | None = None,
    *,
    gradient: float = _PRECISE,
) -> LogisticRegression:
    """A logistic regression of labels (N,) on inputs (N, D), each row of which counts as much as its weight (N,). The
    fit ends where no element of the loss's gradient is larger than `gradient`."""
    with warnings.catch_warnings():
        # a head that has all but converged answers the same, and few images of many classes are what some people have:
        # the warnings would only worry
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes is greater than", UserWarning)
        exact, most = (inputs, 300) if gradient > _PRECISE else (inputs.astype(np.float64), 1000)
        return LogisticRegression(C=strength, max_iter=most, tol=gradient).fit(exact, labels, weights)


def _log_probabilities(model: LogisticRegression, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, K); finite where a probability is too small for a number, which a large C brings about."""
    logits = model.decision_function(inputs)
    if logits.ndim == 1:  # of two classes, scikit-learn keeps the difference only
        logits = np.stack([np.zeros_like(logits), logits], axis=1)
    found: NDArray[np.float64] = log_softmax(logits, axis=1)
    return found


def held_out_folds(
    labels: NDArray[np.int64], groups: NDArray[np.int64], folds: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(train, held out) rows of each fold, groups whole.

    There are fewer folds where no class has so many groups, and none where no class has two.
    """
    pairs = np.unique(np.stack([labels, groups]), axis=1)
    folds = min(folds, int(np.unique(pairs[0], return_counts=True)[1].max()))
    if folds < 2:
        return []
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # a class with fewer images than folds is held out in fewer of them; nobody need hear of it
        warnings.simplefilter("ignore", UserWarning)
        return list(splitter.split(np.zeros(len(labels)), labels, groups))


def _cross_validated(
    inputs: NDArray[np.float32],
    labels: NDArray[np.int64],
    splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    strength: float,
) -> tuple[float, float] | None:
    """Mean negative log-likelihood and accuracy of held-out rows whose class is among the others; None without any."""
    losses, hits = [], []
    for train, held in splits:
        if len(np.unique(labels[train])) < 2:
            continue
        model = regression(inputs[train], labels[train], strength, gradient=ROUGH)
        held = held[np.isin(labels[held], model.classes_)]
        if len(held):
            log_probabilities = _log_probabilities(model, inputs[held])
            truth = np.searchsorted(model.classes_, labels[held])
            losses.append(-log_probabilities[np.arange(len(held)), truth])
            hits.append(log_probabilities.argmax(1) == truth)
    if not losses:
        return None
    return float(np.concatenate(losses).mean()), float(np.concatenate(hits).mean())
