"""How far a model that has not seen an image believes its label.

Northcutt, Jiang & Chuang, "Confident learning: estimating uncertainty in dataset labels" (2021): a class is believed of
an image if its out-of-fold probability reaches the mean of that class over the images that are labelled so. So a class
that the model is seldom sure of is not doubted as a whole. Kuan & Mueller, "Model-agnostic label quality scoring to
detect real-world label errors" (2022) compare scores by which to rank; the margin is one of the best of them.

Shapes: N images, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["from_answers", "margin", "self_confidence", "thresholds", "unbiased"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def self_confidence(probabilities: Floats, labels: Ints) -> Floats:
    """(N,) the probability of the given label, of probabilities (N, K) and labels (N,)."""
    own: Floats = probabilities[np.arange(len(labels)), labels]
    return own


def margin(probabilities: Floats, labels: Ints) -> Floats:
    """(N,) the value of the given label minus that of the likeliest other class: below 0 where another is likelier.

    `probabilities` (N, K) may also be votes, or what `unbiased` makes of them.
    """
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    found: Floats = self_confidence(probabilities, labels) - others.max(axis=1)
    return found


def thresholds(probabilities: Floats, labels: Ints) -> Floats:
    """(K,) the mean probability of each class over the images that are labelled so; 1 for a class without any."""
    num_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, self_confidence(probabilities, labels), minlength=num_classes)
    return np.where(counts > 0, sums / counts.clip(1), 1.0)


def unbiased(probabilities: Floats, labels: Ints) -> Floats:
    """(N, K) each class's probability minus its threshold: what remains says who is believed more than usual."""
    return probabilities - thresholds(probabilities, labels)


def from_answers(labels: Ints, own: Floats, predicted: Ints, probability: Floats, num_classes: int) -> Floats:
    """(N, K) probabilities of which only two are known: `own` (N,) of the labels and that of the `predicted` class.

    What they leave of 1 is spread evenly over the other classes.
    """
    rows = np.arange(len(labels))
    known = np.zeros((len(labels), num_classes), np.bool_)
    known[rows, labels] = known[rows, predicted] = True
    left = (1 - own - np.where(predicted == labels, 0.0, probability)).clip(0)
    found = np.where(known, 0.0, (left / (~known).sum(axis=1).clip(1))[:, None])
    found[rows, labels], found[rows, predicted] = own, probability
    return found
