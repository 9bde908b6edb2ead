"""A linear head in closed form, where a logistic regression would take hours: Fisher's discriminant.

Classes are taken for normal distributions with one covariance (Fisher, "The use of multiple measurements in taxonomic
problems", 1936), which is shrunk towards a multiple of the identity (Friedman, "Regularized discriminant analysis",
1989). Its cost grows with the number of images and not with that of classes times images. How much it shrinks is chosen
on images that are held out, and so is one number by which all logits are multiplied: densities in hundreds of
dimensions claim too much.

Shapes: N images, K classes, D features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fieldmark.evaluation.blocks import blocks
from fieldmark.evaluation.scaling import fit_temperature

__all__ = ["Discriminant", "fit_discriminant"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SHRINKAGES = (0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
_UNMEASURED = 0.3
"""The shrinkage where no image can be held out."""
_MOST_JUDGED = 2_000
"""Held-out images that the choice is made on."""
_IMPOSSIBLE = 1e4
"""How far below the bias of any other class that of a class without images is."""


class Discriminant(NamedTuple):
    """logits = weight @ features + bias."""

    weight: Floats
    """(K, D)."""
    bias: Floats
    """(K,)."""
    accuracy: float | None
    """The share of held-out images that are right; None where none could be held out."""


def fit_discriminant(
    features: NDArray[np.floating],
    labels: Ints,
    groups: Ints,
    num_classes: int,
    *,
    weights: NDArray[np.floating] | None = None,
    seed: int = 0,
) -> Discriminant:
    """Fit a head to features (N, D) and labels (N,), each of which counts as much as its weight (N,).

    Images that are held out are never of one group (N,) with others, and count fully: the rest are pseudo-labels.
    """
    counts = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    rng = np.random.default_rng(seed)
    group = np.unique(groups, return_inverse=True)[1]
    held = (rng.random(group.max() + 1) < 1 / 3)[group]
    judged = np.flatnonzero(held & (counts >= 1) & np.isin(labels, labels[~held]))
    shrinkage, scale, accuracy = _UNMEASURED, 1.0, None
    if len(judged):
        judged = np.sort(rng.permutation(judged)[:_MOST_JUDGED])
        others = _Moments.of(features[~held], labels[~held], counts[~held], num_classes)
        right = {one: _share_right(others.head(one), features[judged], labels[judged]) for one in _SHRINKAGES}
        shrinkage = max(right, key=right.__getitem__)
        scale = float(fit_temperature(_logits(others.head(shrinkage), features[judged]), labels[judged]).scale[0])
        accuracy = right[shrinkage]
    moments = _Moments.of(features, labels, counts, num_classes)
    weight, bias = moments.head(shrinkage)
    return Discriminant(scale * weight, moments.excluding(scale * bias), accuracy)


class _Moments(NamedTuple):
    """What a discriminant needs to know of images."""

    shares: Floats
    """(K,) of the classes."""
    means: Floats
    """(K, D); zeros for a class without images."""
    spreads: Floats
    """(D,) the eigenvalues of the covariance within classes."""
    axes: Floats
    """(D, D) their eigenvectors, as columns."""

    @classmethod
    def of(cls, features: NDArray[np.floating], labels: Ints, counts: Floats, num_classes: int) -> _Moments:
        """Of features (N, D) with labels (N,), which count as often as `counts` (N,) says."""
        of_class = np.bincount(labels, counts, minlength=num_classes)
        member = csr_array((counts, (labels, np.arange(len(labels)))), shape=(num_classes, len(labels)))
        sums = member @ features.astype(np.float64)
        means = sums / of_class.clip(1e-12)[:, None]
        scatter = np.zeros((features.shape[1], features.shape[1]))
        for rows in blocks(*features.shape):
            some = features[rows].astype(np.float64)
            scatter += (some * counts[rows, None]).T @ some
        within = (scatter - sums.T @ means) / counts.sum()
        spreads, axes = np.linalg.eigh(within)
        return cls(of_class / counts.sum(), means, spreads.clip(0), axes)

    def head(self, shrinkage: float) -> tuple[Floats, Floats]:
        """The weight (K, D) and bias (K,) of all classes."""
        shrunk = (1 - shrinkage) * self.spreads + shrinkage * max(float(self.spreads.mean()), 1e-12)
        weight = (self.means @ self.axes / shrunk) @ self.axes.T
        prior = np.log(np.where(self.shares > 0, self.shares, 1))
        return weight, self.excluding(prior - (weight * self.means).sum(axis=1) / 2)

    def excluding(self, bias: Floats) -> Floats:
        """A bias (K,) by which no class without images is answered."""
        present = self.shares > 0
        return np.where(present, bias, bias[present].min() - _IMPOSSIBLE)


def _logits(head: tuple[Floats, Floats], features: NDArray[np.floating]) -> NDArray[np.float32]:
    """(N, K)."""
    weight, bias = (values.astype(np.float32) for values in head)
    found: NDArray[np.float32] = features.astype(np.float32) @ weight.T + bias
    return found


def _share_right(head: tuple[Floats, Floats], features: NDArray[np.floating], labels: Ints) -> float:
    return float((_logits(head, features).argmax(axis=1) == labels).mean())
