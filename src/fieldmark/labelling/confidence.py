"""How far a model that has not seen an image believes its label.

The scores of Northcutt, Jiang & Chuang, "Confident learning: estimating uncertainty in dataset labels" (2021). Their
thresholds per class are left out: of mistakes that were planted among look-alikes, probabilities that are adjusted by
them find fewer (benchmarks/README.md).

Shapes: N images, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["from_answers", "margin", "self_confidence"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def self_confidence(probabilities: Floats, labels: Ints) -> Floats:
    """(N,) the probability of the given label, of probabilities (N, K) and labels (N,)."""
    own: Floats = probabilities[np.arange(len(labels)), labels]
    return own


def margin(probabilities: Floats, labels: Ints) -> Floats:
    """(N,) the value of the given label minus that of the likeliest other class: below 0 where another is likelier."""
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    found: Floats = self_confidence(probabilities, labels) - others.max(axis=1)
    return found


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
