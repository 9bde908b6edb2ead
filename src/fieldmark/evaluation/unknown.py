"""None of these: telling pictures of unknown classes, or of nothing, from those that the model knows.

Two scores are added, each in units of its own spread over known images that the model has not learnt from:

- the highest calibrated probability (Hendrycks & Gimpel, "A baseline for detecting misclassified and
  out-of-distribution examples", 2017), which notices classes close to the known ones;
- the cosine of the embedding to the nearest class mean (Lee et al., "A simple unified framework for detecting
  out-of-distribution samples", 2018, with cosine in place of Mahalanobis distance), which notices what looks like
  no class.

Why these: on out-of-fold predictions of photographs of birds, the cosine alone tells flowers and bare backgrounds best
and unknown species worst, the probability alone the other way round, and the sum is nearly as good as the better of
both at either. Energy, maximum logit, full, diagonal and relative Mahalanobis distances were worse at one of them
(benchmarks/README.md). It needs logits, embedding and class means only: a matrix product, two maxima and a sum.

Shapes: N images, K classes, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import RunError
from fieldmark.evaluation.blocks import blocks
from fieldmark.evaluation.outputs import unit

__all__ = ["ACCEPTED", "Familiarity", "class_means", "fit_familiarity", "nearness"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ACCEPTED = 0.95
"""The share of known images that the threshold accepts."""


def class_means(embedding: NDArray[np.floating], labels: Ints, num_classes: int) -> Floats:
    """(K, D) the mean embedding of each class, of unit length; zeros for a class without images.

    embedding (N, D) and labels (N,) of training images.
    """
    sums = np.zeros((num_classes, embedding.shape[1]))
    np.add.at(sums, labels, embedding)
    return unit(sums)


def nearness(embedding: NDArray[np.floating], means: Floats) -> Floats:
    """(N,) cosine of each embedding (N, D) to the nearest of the class means (K, D).

    Raises RunError where the two are of different models.
    """
    if embedding.shape[1] != means.shape[1]:
        raise RunError(
            f"The calibration is for embeddings of {means.shape[1]:,} numbers, but the network gives "
            f"{embedding.shape[1]:,}",
            "They belong to different models: copy the bundle again.",
        )
    directions = unit(embedding.astype(np.float64))
    nearest = [(directions[rows] @ means.T).max(axis=1) for rows in blocks(len(directions), len(means))]
    return np.concatenate(nearest) if nearest else np.zeros(0)


@dataclass(frozen=True, eq=False)
class Familiarity:
    """How familiar a picture looks."""

    centre: Floats
    """(2,) the means of probability and nearness over held-out images of known classes."""
    spread: Floats
    """(2,) their standard deviations."""
    known: Floats
    """(N,) scores of these images, ascending."""

    def score(self, confidence: Floats, near: Floats) -> Floats:
        """(N,) scores, higher is more familiar; from the highest calibrated probability (N,) and `nearness` (N,)."""
        standard: Floats = (np.stack([confidence, near], axis=1) - self.centre) / self.spread
        return standard.sum(axis=1)

    def share_below(self, score: Floats) -> Floats:
        """(N,) the share of known images that look no more familiar: a conformal p-value, never zero."""
        return (np.searchsorted(self.known, score, side="right") + 1) / (len(self.known) + 1)

    def accepts(self, score: Floats) -> NDArray[np.bool_]:
        """(N,) whether a picture looks familiar; all do if there are too few known images to tell."""
        return self.share_below(score) > 1 - ACCEPTED


def fit_familiarity(confidence: Floats, near: Floats) -> Familiarity:
    """Fit familiarity to held-out known images, from their highest calibrated probability and nearness, (N,) each.

    Embeddings of different models are unrelated: if several models answered the images (the folds of a cross-fit), each
    nearness must have been measured in the space of its own model, to that model's class
    means. The cosines themselves can be pooled, since they have no unit; what differs between models widens the spread.
    """
    values = np.stack([confidence, near], axis=1)
    unsorted = Familiarity(values.mean(axis=0), values.std(axis=0).clip(1e-6), np.zeros(0))
    return Familiarity(unsorted.centre, unsorted.spread, np.sort(unsorted.score(confidence, near)))
