"""What the nearest other images are labelled, in embedding space.

Each of the nearest images votes for its label with exp(cosine / 0.07), as in Wu et al., "Unsupervised feature learning
via non-parametric instance discrimination" (2018). What belongs to the image itself, its burst and its copies, has no
vote: it would carry the same mistake.

Shapes: N images, D embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Neighbours", "look_alikes", "neighbours", "unit", "votes"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NUM = 10
"""Images that vote."""
_TEMPERATURE = 0.07
_CHUNK = 1024


class Neighbours(NamedTuple):
    """The nearest images of each of N."""

    rows: Ints
    """(N, n) the nearest first; −1 where there are not so many."""
    cosines: Floats
    """(N, n)."""


def unit(embedding: NDArray[np.floating]) -> NDArray[np.float32]:
    """(N, D) at unit length."""
    lengths = np.linalg.norm(embedding, axis=1, keepdims=True).clip(1e-12)
    return np.asarray(embedding / lengths, np.float32)


def neighbours(embedding: NDArray[np.floating], units: Ints, num: int = NUM) -> Neighbours:
    """The `num` nearest of embeddings (N, D) to each, by cosine, without those of its own unit (N,)."""
    num = min(num, max(len(units) - 1, 1))
    found = [_nearest(cosines, num) for _, cosines in _cosines(embedding, units)]
    if not found:
        return Neighbours(np.empty((0, num), np.int64), np.empty((0, num)))
    rows, cosines = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Neighbours(np.where(np.isfinite(cosines), rows, -1), cosines)


def votes(near: Neighbours, labels: Ints, num_classes: int) -> Floats:
    """(N, K) the share of the votes for each class; zeros where nobody votes."""
    there = near.rows >= 0
    weights = np.where(there, np.exp((np.where(there, near.cosines, 0.0) - 1) / _TEMPERATURE), 0.0)
    found = np.zeros((len(near.rows), num_classes))
    np.add.at(found, (np.arange(len(near.rows))[:, None], labels[near.rows]), weights)
    total = found.sum(axis=1, keepdims=True)
    return np.divide(found, total, out=np.zeros_like(found), where=total > 0)


def look_alikes(
    queries: NDArray[np.floating], own: Ints, embedding: NDArray[np.floating], labels: Ints, units: Ints, wanted: Ints
) -> Ints:
    """(Q,) the row of the image most like each query (Q, D) that is labelled as `wanted` (Q,); −1 where there is none.

    Images of the query's `own` unit (Q,) are passed over; −1 is none of the units (N,).
    """
    vectors, found = unit(embedding), np.full(len(queries), -1)
    for label in np.unique(wanted):
        asked, rows = np.flatnonzero(wanted == label), np.flatnonzero(labels == label)
        if len(rows):
            cosines = unit(queries[asked]) @ vectors[rows].T
            cosines[own[asked][:, None] == units[rows][None]] = -np.inf
            best = cosines.argmax(axis=1)
            there = np.isfinite(cosines[np.arange(len(asked)), best])
            found[asked[there]] = rows[best[there]]
    return found


def _cosines(embedding: NDArray[np.floating], units: Ints) -> Iterator[tuple[Ints, NDArray[np.float32]]]:
    """Some rows at a time, with their cosines to all; −inf within a unit."""
    vectors = unit(embedding)
    for start in range(0, len(vectors), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(vectors)))
        cosines = vectors[rows] @ vectors.T
        cosines[units[rows][:, None] == units[None]] = -np.inf
        yield rows, cosines


def _nearest(cosines: NDArray[np.float32], num: int) -> tuple[Ints, Floats]:
    """(n, num) the columns with the greatest values, the greatest first, and these."""
    num = min(num, cosines.shape[1])
    some = np.argpartition(-cosines, num - 1, axis=1)[:, :num]
    values = np.take_along_axis(cosines, some, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1), np.take_along_axis(values, order, axis=1).astype(np.float64)
