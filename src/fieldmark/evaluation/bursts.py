"""Bursts: several photographs of one thing give one answer.

Frames of one event are not independent: they share the animal, the light and the mistake. Multiplying their
probabilities counts one look many times; averaging them counts many looks once. The pooled evidence of n frames is
n^power times the mean of their log-probabilities, with power 0 for the one and 1 for the other, fitted by likelihood on
groups of validation images (a geometric opinion pool with one weight; Genest & Zidek, "Combining probability
distributions", 1986).

Shapes: N images, K classes, U groups.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from fieldmark.evaluation.scaling import nll

__all__ = ["fit_power", "of_one_label", "pool"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DEPENDENT = 0.0
"""The power where no group says otherwise: frames that all repeat one look."""
ENOUGH = 20
"""Groups of two or more frames that a fit takes."""


def pool(log_probabilities: Floats, groups: Ints, power: float) -> Floats:
    """(U, K) log-probabilities of groups 0 … U - 1, from those of their frames (N, K) and the frames' groups (N,)."""
    count = np.bincount(groups)
    # −inf times zero is no number, and a class that one frame all but excludes must stay comparable
    frames = np.maximum(log_probabilities, -1e4)
    order = np.argsort(groups, kind="stable")
    summed = np.add.reduceat(frames[order], np.cumsum(count) - count, axis=0) if len(count) else frames
    mean = summed / count[:, None]
    return log_softmax(mean * count[:, None].astype(np.float64) ** power, axis=1)


def of_one_label(labels: Ints, groups: Ints) -> NDArray[np.bool_]:
    """(U,) whether all frames of a group have one label, from the labels and groups (N,) of the frames."""
    low = np.full(groups.max() + 1, labels.max())
    high = np.zeros_like(low)
    np.minimum.at(low, groups, labels)
    np.maximum.at(high, groups, labels)
    one: NDArray[np.bool_] = low == high
    return one


def fit_power(log_probabilities: Floats, labels: Ints, groups: Ints) -> float:
    """The power in [0, 1] that makes the groups' labels (N,) most likely, or 0 if too few groups have two frames.

    Groups whose frames have different labels are left out: they do not show one thing.
    """
    from scipy.optimize import minimize_scalar  # slow to import, and no answer needs it

    used = of_one_label(labels, groups) & (np.bincount(groups) > 1)
    if used.sum() < ENOUGH:
        return DEPENDENT
    rows = used[groups]
    number = np.cumsum(used) - 1
    frames, of_group = log_probabilities[rows], number[groups[rows]]
    truth = np.zeros(used.sum(), np.int64)
    truth[of_group] = labels[rows]
    found = minimize_scalar(
        lambda power: float(nll(pool(frames, of_group, power), truth).mean()), bounds=(0, 1), method="bounded"
    )
    return float(found.x)
