"""How good a ranking by likeness is: does a picture find others of its class, first of all and only them?

Recall@k is the share of queries with another picture of their class among the k nearest. R-precision is the share of
the R nearest that are of the query's class, where R is how many of them there are; and MAP@R the mean over those ranks
of the precision so far where the rank is right, so that early mistakes count more (Musgrave, Belongie & Lim, "A metric
learning reality check", 2020). A query never finds itself, nor another picture of its group (a burst, a camera), and a
query whose class has no other picture is left out.

Shapes: N pictures, D embedding, Q queries that have something to find.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import DataError
from fieldmark.evaluation.outputs import unit
from fieldmark.evaluation.paired import Share, group_codes, interval, resampled_means

__all__ = ["KS", "Retrieval", "retrieval"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KS = (1, 5, 10)
"""The ranks up to which a recall is told."""
_BLOCK = 512
"""Queries whose distances are in memory at a time."""


@dataclass(frozen=True, eq=False)
class Retrieval:
    """What each query found."""

    queries: Ints
    """(Q,) the rows of the queries that have something to find."""
    labels: Ints
    """(Q,) their labels."""
    recall: NDArray[np.bool_]
    """(Q, len(KS)) whether one of the k nearest is of the query's class."""
    precision: Floats
    """(Q,) R-precision."""
    average_precision: Floats
    """(Q,) the average precision at R, whose mean is MAP@R."""

    def scores(self, *, seed: int = 0) -> dict[str, Share]:
        """The means. Intervals are over classes, since other classes are what such a model is for."""
        columns = {f"recall@{k}": self.recall[:, at].astype(np.float64) for at, k in enumerate(KS)}
        columns |= {"r_precision": self.precision, "map@r": self.average_precision}
        values = np.stack(list(columns.values()), axis=1)
        draws = resampled_means(values, self.labels, seed=seed)
        means = values.mean(axis=0)
        return {
            name: Share(float(mean), *interval(float(mean), draw)).widened(len(np.unique(self.labels)))
            for name, mean, draw in zip(columns, means, draws.T, strict=True)
        }


def retrieval(embedding: NDArray[np.floating], labels: Ints, groups: Sequence[str] | None = None) -> Retrieval:
    """Search for each picture among all others, by the cosine of embeddings (N, D) with labels (N,).

    `groups` (N,): pictures of one group do not find each other; "" is none. Raises DataError if no class has two
    pictures that may find each other.
    """
    group = group_codes([""] * len(labels) if groups is None else groups)
    found = list(_each(unit(embedding.astype(np.float32)), labels, group))
    if not found:
        raise DataError(
            "There is nothing to find: no class has two pictures that are not of one group",
            "Retrieval needs at least two photographs of a class.",
        )
    queries, recall, precision, average = (np.array(column) for column in zip(*found, strict=True))
    return Retrieval(queries, labels[queries], recall, precision, average)


def _each(vectors: NDArray[np.float32], labels: Ints, group: Ints) -> Iterator[tuple[int, Floats, float, float]]:
    """For each query with something to find: its row, recalls, R-precision and average precision at R."""
    for start in range(0, len(vectors), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(vectors)))
        alike = vectors[rows] @ vectors.T
        for row, own in zip(rows.tolist(), alike, strict=True):
            others = group != group[row]
            same = others & (labels == labels[row])
            total = int(same.sum())
            if not total:
                continue
            own[~others] = -np.inf
            deepest = min(max(total, *KS), len(own) - 1)
            nearest = np.argpartition(-own, deepest)[: deepest + 1]
            nearest = nearest[np.argsort(-own[nearest], kind="stable")]
            right = same[nearest]
            hits = np.cumsum(right)
            at_r, ranks = right[:total], np.arange(1, total + 1)
            yield (
                row,
                np.array([hits[min(k, len(hits)) - 1] > 0 for k in KS]),
                float(at_r.mean()),
                float((hits[:total] / ranks * at_r).sum() / total),
            )
