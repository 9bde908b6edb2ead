"""Which of the known ones, or none: a picture against a reference of classes that a few photographs each show.

The best of G references is asked for, and the more there are, the likelier one of them is alike by chance. So the
threshold is one on the best: the false positive identification rate (FPIR) is the share of searches for what is not in
the reference that end with a name, and the true positive identification rate (TPIR) the share of searches for what is
there that end with the right name; the false negative identification rate is 1 − TPIR (ISO/IEC 19795-1).

Shapes: N searches, M pictures of the reference, G classes of the reference, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.evaluation.paired import Share, interval, resampled_means
from fieldmark.evaluation.plda import Plda, means_and_counts
from fieldmark.evaluation.verification import Point, lowest_accepted

__all__ = ["Identification", "Reference"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@final
@dataclass(frozen=True, eq=False)
class Reference:
    """Photographs of known classes."""

    embedding: Floats
    """(M, D) of unit length."""
    labels: Ints
    """(M,) in [0, G), each of them with a photograph."""
    groups: Ints
    """(M,)."""

    def __len__(self) -> int:
        return int(self.labels.max()) + 1

    def likeness(self, plda: Plda, embedding: Floats) -> Floats:
        """(N, G) the log-odds that each of these images (N, D) is of each class."""
        means, counts = means_and_counts(self.embedding, self.labels, len(self))
        own, centres = plda.coordinates(embedding), plda.coordinates(means)
        of_none = plda.log_densities(own, np.zeros((1, own.shape[1])), 1 + plda.spread[None])
        return plda.log_densities(own, *plda.known(centres, counts)) - of_none

    def left_out(self, plda: Plda) -> tuple[Floats, Floats]:
        """(M, G) the likeness of its own photographs to each class, as if none of the photograph's own group were among
        those of its class, and (M,) that to the own class; −inf where no other photograph shows it."""
        scores = self.likeness(plda, self.embedding)
        own = np.full(len(self.labels), -np.inf)
        coordinates = plda.coordinates(self.embedding)
        for row, (label, group) in enumerate(zip(self.labels, self.groups, strict=True)):
            others = (self.labels == label) & (self.groups != group)
            if count := int(others.sum()):
                mean = plda.coordinates(self.embedding[others].mean(axis=0, keepdims=True))
                own[row] = plda.likeness(coordinates[row : row + 1], mean, np.array([count]))[0]
        return scores, own


@final
@dataclass(frozen=True, eq=False)
class Identification:
    """Searches of which it is known whether what is searched for is there."""

    strangers: Floats
    """The best score of each search for what is not in the reference, in descending order."""
    stranger_classes: Ints
    """Their classes, from 0."""
    known: Floats
    """The score of the right class in each search for what is there; −inf where another class has a better one."""
    known_classes: Ints
    what: str = "false positive identification rate"

    @classmethod
    def of(cls, reference: Reference, plda: Plda, others: Sequence[tuple[Floats, Ints]] = ()) -> Self:
        """From a reference, whose photographs look for their own class with and without it, and `others`: the best
        scores of further strangers, with labels that are not those of the reference."""
        scores, own = reference.left_out(plda)
        rows, alone = np.arange(len(own)), reference.labels
        scores[rows, alone] = -np.inf
        best = scores.max(axis=1)
        # a reference of one class has no strangers of its own
        strangers, classes = ([best], [alone]) if len(reference) > 1 else ([], [])
        known, known_classes = np.where(own >= best, own, -np.inf)[own > -np.inf], alone[own > -np.inf]
        start = len(reference)
        for found, labels in others:
            strangers.append(found)
            classes.append(labels + start)
            start += int(labels.max(initial=-1)) + 1
        joined = np.concatenate([*strangers, np.zeros(0)])
        order = np.argsort(-joined, kind="stable")
        codes = np.unique(np.concatenate([*classes, np.zeros(0, np.int64)]), return_inverse=True)[1]
        return cls(joined[order], codes[order], known, known_classes)

    @property
    def num_classes(self) -> int:
        """Of the strangers."""
        return int(self.stranger_classes.max(initial=-1)) + 1

    def threshold(self, rate: float) -> float:
        """The lowest best score that is accepted if no larger a share of strangers may be."""
        if not len(self.strangers):
            return np.inf
        return lowest_accepted(self.strangers, np.ones(len(self.strangers), np.bool_), rate)

    def num_accepted(self, threshold: float) -> int:
        """How many strangers get a name."""
        return int((self.strangers >= threshold).sum())

    def at(self, threshold: float) -> Point:
        """FPIR and TPIR at a threshold; the latter is NaN where each class has one photograph."""
        return Point(
            threshold,
            _share(self.strangers >= threshold, self.stranger_classes),
            _share(self.known >= threshold, self.known_classes),
        )


def _share(right: NDArray[np.bool_], classes: Ints) -> Share:
    """The share that is true, with its interval over classes; over pictures where there is one class."""
    if not len(right):
        return Share(np.nan, np.nan, np.nan)
    if len(np.unique(classes)) == 1:
        classes = np.arange(len(right))
    value, draws = float(right.mean()), resampled_means(right[:, None].astype(np.float64), classes)[:, 0]
    return Share(value, *interval(value, draws)).widened(len(np.unique(classes)))
