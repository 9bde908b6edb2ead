"""Does a flip change the meaning? Measured on training images, before anything is learnt.

A ridge classifier learns from features of the images as they are and answers for held-out images and for their mirror
images. Where mirror images of class A go to class B, and those of B to A, flips teach the wrong class.

The features are those of the small network that comes along, on a grid of 2 × 4 cells, since a mean over the picture
would not know left from right. They are the same for every backbone, so that the answer is, too.

Shapes: N images, D features, K classes, F rows to fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor
from torch.nn import functional as F

from fieldmark.core.recipe import Backbone as BackboneChoice
from fieldmark.learning.training.probe import held_out_folds
from fieldmark.model.backbone import build_backbone

__all__ = ["SIZE", "MirrorPair", "find_mirror_pair", "mirror_features"]

SIZE = 112
"""Side of the views that features are computed from, in pixels."""
_GRID = (2, 4)
_FOLDS = 5
_RIDGES = (0.01, 0.1, 1.0)
_LEVEL = 0.01
"""Chance of finding a pair, among all pairs, where mirroring makes no difference."""

Floats = NDArray[np.floating]


class MirrorPair(NamedTuple):
    """Two classes that a mirror exchanges."""

    first: int
    second: int
    """Their labels."""
    right: float
    """Share of held-out images of the two that are told apart."""
    exchanged: float
    """Share of their mirror images that pass for the other of the two."""
    probability: float
    """Of the like by chance alone: an exact binomial test, times the number of pairs."""


def mirror_features(batches: Iterable[Tensor]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (N, D) of images, uint8 (B, 3, `SIZE`, `SIZE`), and of their mirror images."""
    choice = BackboneChoice(name="test_resnet", weights="fieldguide")
    with torch.random.fork_rng(devices=[]):  # nothing that follows depends on whether this was measured
        backbone = build_backbone(choice, size=SIZE).eval()
    own: list[NDArray[np.float32]] = []
    mirrored: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for images in batches:
            for views, features in ((images, own), (images.flip(3), mirrored)):
                cells = F.adaptive_avg_pool2d(backbone(backbone.normalization(views)).map, _GRID)
                features.append(cells.flatten(1).numpy())
    return np.concatenate(own), np.concatenate(mirrored)


def find_mirror_pair(
    features: Floats, mirrored: Floats, labels: NDArray[np.int64], units: NDArray[np.int64], *, seed: int = 0
) -> MirrorPair | None:
    """The two classes that a mirror exchanges most surely, or None where there are none.

    features and mirrored (N, D), labels (N,); images of one unit (N,), such as a burst, are held out together and
    have one vote. A pair is found where its images are told apart, most mirror images of each of the two pass for the
    other, and neither is chance at the level of 1 % over all pairs. So classes that look alike are no pair (they are
    not told apart), nor is one whose mirror images look like nothing.
    """
    classes, positions = np.unique(labels, return_inverse=True)
    folds = held_out_folds(labels, units, _FOLDS, seed)
    if len(classes) < 2 or not folds:
        return None
    own, other = _scores(features, mirrored, np.eye(len(classes))[positions], folds)
    right, exchanged, counts = _votes(own, other, positions, units)
    most = exchanged > counts[:, None] / 2
    total = counts[:, None] + counts
    right, exchanged = right + right.T, exchanged + exchanged.T
    chance = np.maximum(binom.sf(right - 1, total, 0.5), binom.sf(exchanged - 1, total, 0.5))
    chance *= len(classes) * (len(classes) - 1) / 2
    chance[~(most & most.T) | np.eye(len(classes), dtype=bool)] = 1
    first, second = sorted(np.unravel_index(int(chance.argmin()), chance.shape))
    if chance[first, second] >= _LEVEL:
        return None
    images = total[first, second]
    return MirrorPair(
        int(classes[first]),
        int(classes[second]),
        float(right[first, second] / images),
        float(exchanged[first, second] / images),
        float(chance[first, second]),
    )


def _scores(
    features: Floats, mirrored: Floats, targets: Floats, folds: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> tuple[Floats, Floats]:
    """Held-out scores (N, K) of images and of their mirror images, at the ridge that tells most images right."""
    mean, scale = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64) + 1e-6
    inputs, flipped = (features - mean) / scale, (mirrored - mean) / scale
    gram, cross = inputs @ inputs.T, flipped @ inputs.T  # more features than images: solve for the images
    unit = np.trace(gram) / len(gram) or 1.0
    best: tuple[float, Floats, Floats] | None = None
    for ridge in _RIDGES:
        own, other = np.zeros_like(targets), np.zeros_like(targets)
        for fitted, held in folds:
            offset = targets[fitted].mean(0)
            kernel = gram[np.ix_(fitted, fitted)] + ridge * unit * np.eye(len(fitted))  # (F, F)
            weights = np.linalg.solve(kernel, targets[fitted] - offset)  # (F, K)
            own[held] = gram[np.ix_(held, fitted)] @ weights + offset
            other[held] = cross[np.ix_(held, fitted)] @ weights + offset
        accuracy = float((own.argmax(1) == targets.argmax(1)).mean())
        if best is None or accuracy > best[0]:
            best = accuracy, own, other
    assert best is not None
    return best[1:]


def _votes(
    own: Floats, other: Floats, positions: NDArray[np.int64], units: NDArray[np.int64]
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Units of class a that are told from class b (K, K), whose mirror images pass for b (K, K), and all (K,)."""
    num_classes = own.shape[1]
    right, exchanged = np.zeros((num_classes, num_classes)), np.zeros((num_classes, num_classes))
    counts = np.zeros(num_classes, dtype=np.int64)
    for a in range(num_classes):
        rows = np.flatnonzero(positions == a)
        found, unit = np.unique(units[rows], return_inverse=True)
        share = np.eye(len(found))[:, unit]
        mine, theirs = share @ own[rows], share @ other[rows]
        right[a] = (mine[:, [a]] > mine).sum(0)
        exchanged[a] = (theirs[:, [a]] < theirs).sum(0)
        counts[a] = len(found)
    return right, exchanged, counts
