"""How likely a picture is of a class that only a few photographs show: probabilistic linear discriminant analysis.

An embedding is taken for the sum of the mean of its class and a deviation, both normally distributed (Ioffe,
"Probabilistic linear discriminant analysis", 2006; Prince & Elder, "Probabilistic linear discriminant analysis for
inferences about identity", 2007, with full-rank covariances). Known classes say how both are distributed; then a few
photographs of another class say where its mean may lie and how sure that is. So a class of five photographs and one of
fifty are compared fairly, which nearest means and a regression do not: the former take every mean for exact, and the
latter knows rare classes only as exceptions.

The covariance of deviations is shrunk towards a multiple of the identity, and so is that of means: K classes span at
most K − 1 directions, and another class may differ from them in others.

Shapes: N images, K classes, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Plda", "means_and_counts"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def means_and_counts(embedding: Floats, labels: Ints, num_classes: int) -> tuple[Floats, Ints]:
    """The mean (K, D) and the number (K,) of each class's embeddings (N, D); zeros for a class without images."""
    counts = np.bincount(labels, minlength=num_classes)
    means = np.zeros((num_classes, embedding.shape[1]))
    np.add.at(means, labels, embedding)
    return means / counts.clip(1)[:, None], counts


@dataclass(frozen=True, eq=False)
class Plda:
    """Coordinates in which deviations have unit variance and class means are independent."""

    centre: Floats
    """(D,) the mean of class means."""
    axes: Floats
    """(D, D) embedding − centre → coordinates."""
    spread: Floats
    """(D,) the variance of class means along each coordinate."""

    @classmethod
    def fit(
        cls,
        embedding: Floats,
        labels: Ints,
        means: Floats | None = None,
        counts: Ints | None = None,
        *,
        within: float = 0.8,
        between: float = 0.3,
    ) -> Plda:
        """Fit to embeddings (N, D) with labels (N,) of two or more classes, some of them with two or more images.

        The images may be a sample of those that the `means` (K, D) are of, so many (K,) of each class; a class without
        images is passed over. `within` and `between` are how far the covariances of deviations and of means are shrunk.
        """
        if means is None or counts is None:
            means, counts = means_and_counts(embedding, labels, int(labels.max()) + 1)
        several = counts[labels] > 1
        index = labels[several]
        # an image has its share in the mean that it deviates from, which makes the deviation smaller
        deviations = (embedding[several] - means[index]) / np.sqrt(1 - 1 / counts[index])[:, None]
        covariance = deviations.T @ deviations / max(1, len(deviations))
        values, vectors = np.linalg.eigh(covariance)
        values = (1 - within) * values.clip(0) + within * values.mean()
        whiten = vectors / np.sqrt(values.clip(1e-12 * max(values.max(), 1e-300)))
        present = counts > 0
        centre = means[present].mean(axis=0)
        seen = (means[present] - centre) @ whiten
        # a mean of n images is off by a deviation divided by √n, which is no difference between classes
        noise = np.mean(1 / counts[present]) * np.eye(len(values))
        spread, turn = np.linalg.eigh(seen.T @ seen / max(1, len(seen) - 1) - noise)
        spread = spread.clip(0)
        return cls(centre, whiten @ turn, (1 - between) * spread + between * spread.mean())

    def coordinates(self, embedding: Floats) -> Floats:
        """(N, D) embeddings → coordinates (N, D)."""
        return (embedding - self.centre) @ self.axes

    def known(self, means: Floats, counts: Ints) -> tuple[Floats, Floats]:
        """(K, D) where another image of each class is expected, and its variance there, for the mean (K, D), in
        coordinates, of so many images (K,)."""
        known = np.asarray(counts, np.float64)[:, None] * self.spread
        return known / (known + 1) * means, 1 + self.spread / (known + 1)

    def log_densities(self, coordinates: Floats, expected: Floats, variance: Floats) -> Floats:
        """(N, K) how likely each image is of each class, as `known` gives them; without the constant."""
        precision = 1 / variance
        square = (
            np.square(coordinates) @ precision.T
            - 2 * coordinates @ (expected * precision).T
            + (np.square(expected) * precision).sum(axis=1)
        )
        found: Floats = -0.5 * (square + np.log(variance).sum(axis=1))
        return found

    def likeness(self, coordinates: Floats, means: Floats, counts: Ints) -> Floats:
        """(N,) the log-odds that each image (N, D) is of the class whose mean, of so many images (N,), is (N, D), and
        not of another that nobody has seen; everything in coordinates."""
        expected, variance = self.known(means, counts)
        own = np.square(coordinates - expected) / variance + np.log(variance)
        other = np.square(coordinates) / (1 + self.spread) + np.log(1 + self.spread)
        found: Floats = 0.5 * (other - own).sum(axis=1)
        return found

    @property
    def terms(self) -> tuple[Floats, Floats, float]:
        """The log-odds that two images x and y are of one class as a sum over coordinates: (D,) the factors of x² and
        of y², (D,) that of x · y, and what is added."""
        alone = 1 + self.spread
        shared = self.spread / alone  # the correlation of two images of one class
        left = 1 - np.square(shared)
        own = -0.5 * np.square(shared) / (alone * left)
        return own, shared / (alone * left), float(-0.5 * np.log(left).sum())

    def same(self, one: Floats, other: Floats) -> Floats:
        """(N,) the log-odds that pairs of images (N, D), in coordinates, are of one class, at even odds beforehand."""
        own, common, start = self.terms
        found: Floats = (np.square(one) + np.square(other)) @ own + (one * other) @ common + start
        return found

    def all_same(self, one: Floats, other: Floats) -> Floats:
        """(N, M) the same for each of N images with each of M, in coordinates."""
        own, common, start = self.terms
        found: Floats = (np.square(one) @ own)[:, None] + np.square(other) @ own + (one * common) @ other.T + start
        return found
