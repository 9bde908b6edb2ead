"""Pictures whose classes are known say how often comparisons of others will be wrong.

The best are of classes that the network has not learnt, since others are what it will be asked about. Without any, the
images that a bundle keeps must do: PLDA is then fitted without the classes that it compares. The network has learnt
them all the same and holds them apart better than others, so a threshold that comes from them accepts more pairs of
other classes than it says.

Shapes: N pictures, G classes of a reference, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.data.names import lookup
from fieldmark.evaluation.enrolment import Kept
from fieldmark.evaluation.identification import Identification, Reference
from fieldmark.evaluation.outputs import unit
from fieldmark.evaluation.plda import Plda
from fieldmark.evaluation.verification import Verification

__all__ = ["MOST", "Basis", "Source"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Source: TypeAlias = Literal["measured", "learnt"]
"""Whether the network has learnt the classes."""

MOST = 3_000
"""Pictures that are compared with each other, of however many; drawn at random."""
_FOLDS = 3


@final
@dataclass(frozen=True, eq=False)
class Basis:
    """Pictures by which decisions are judged."""

    source: Source
    embedding: Floats
    """(N, D) of unit length."""
    labels: Ints
    """(N,)."""
    names: tuple[str, ...]
    """Of the classes, by label."""
    groups: Ints
    """(N,) pictures of one group are not compared."""
    folds: tuple[tuple[Plda, Ints], ...]
    """Rows that are compared with each other, and by what."""

    @classmethod
    def measured(cls, plda: Plda, embedding: NDArray[np.floating], labels: Sequence[str], groups: Ints) -> Self:
        """Of classes that the network has not learnt, nor PLDA; the labels (N,) are their names."""
        rows = _some(len(labels))
        names, codes = np.unique(np.array(labels, dtype=np.str_)[rows], return_inverse=True)
        everything = ((plda, np.arange(len(rows))),)
        return cls(
            "measured", unit(embedding[rows].astype(np.float64)), codes, tuple(names.tolist()), groups[rows], everything
        )

    @classmethod
    def learnt(cls, kept: Kept, names: Sequence[str], *, seed: int = 0) -> Self:
        """Of the images that a bundle keeps. Classes are cut into folds, and those of two folds are not compared."""
        rows = _some(len(kept.labels))
        labels, present = kept.labels[rows], np.flatnonzero(kept.counts)
        fold = np.zeros(len(kept.counts), np.int64)
        fold[present] = np.random.default_rng(seed).permutation(len(present)) % _FOLDS
        out = [fold == k for k in range(_FOLDS)]
        fitted = tuple(
            (kept.plda(one), np.flatnonzero(one[labels]))
            for one in out
            if ((kept.counts > 1) & ~one).sum() > 1 and one[labels].any()
        )
        return cls(
            "learnt", unit(kept.embedding[rows].astype(np.float64)), labels, tuple(names), kept.units[rows], fitted
        )

    def without(self, names: Sequence[str]) -> Self:
        """The same, but for the pictures of these classes."""
        known = lookup(names)
        gone = np.array([known(name) is not None for name in self.names])[self.labels]
        return replace(self, folds=tuple((plda, rows[~gone[rows]]) for plda, rows in self.folds))

    @property
    def size(self) -> tuple[int, int]:
        """The number of pictures that are compared, and that of their classes."""
        rows = np.concatenate([*(rows for _, rows in self.folds), np.zeros(0, np.int64)])
        return len(rows), len(np.unique(self.labels[rows]))

    def verification(self) -> Verification:
        """What becomes of all pairs. Raises DataError if there is no pair of one class, or none of two."""
        scores = np.full((len(self.labels), len(self.labels)), np.nan)
        for plda, rows in self.folds:
            own = plda.coordinates(self.embedding[rows])
            scores[np.ix_(rows, rows)] = plda.all_same(own, own)
        return Verification.of(scores, self.labels, self.groups)

    def strangers(self, reference: Reference) -> tuple[Floats, Ints]:
        """The best score of each picture in a reference that does not have its class, and its class."""
        best = [reference.likeness(plda, self.embedding[rows]).max(axis=1) for plda, rows in self.folds if len(rows)]
        labels = [self.labels[rows] for _, rows in self.folds if len(rows)]
        return np.concatenate([*best, np.zeros(0)]), np.concatenate([*labels, np.zeros(0, np.int64)])

    def identification(self, reference: Reference, plda: Plda) -> Identification:
        """What becomes of searches: for photographs of the reference, and for the basis, which is of other classes."""
        return Identification.of(reference, plda, [self.strangers(reference)])


def _some(number: int) -> Ints:
    """(at most MOST,) rows, ascending."""
    return np.sort(np.random.default_rng(0).permutation(number)[:MOST])
