"""What the images that look most like one are labelled, in embedding space.

Every other image votes for its label with exp(cosine / 0.07), as in Wu et al., "Unsupervised feature learning via
non-parametric instance discrimination" (2018), so the nearest decide. What belongs to the image itself, its burst and
its copies, has no vote: it would carry the same mistake.

Shapes: N images, D embedding, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fieldmark.evaluation.outputs import unit

__all__ = ["look_alikes", "votes"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TEMPERATURE = 0.07
_CHUNK = 1024
"""Images at once: with 50,000 others, their cosines take 200 MB."""


def votes(embedding: NDArray[np.floating], labels: Ints, units: Ints, num_classes: int) -> Floats:
    """(N, K) the share of the votes for each class, for embeddings (N, D), without those of an image's own unit (N,).

    Zeros where nobody votes.
    """
    num = len(labels)
    vectors = unit(embedding.astype(np.float32))
    ballots = csr_array((np.ones(num), (np.arange(num), labels)), shape=(num, num_classes))
    found = np.zeros((num, num_classes))
    for start in range(0, num, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, num))
        weights = np.exp((vectors[rows] @ vectors.T - 1) / _TEMPERATURE)
        weights[units[rows][:, None] == units[None]] = 0
        found[rows] = weights @ ballots
    total = found.sum(axis=1, keepdims=True)
    return np.divide(found, total, out=np.zeros_like(found), where=total > 0)


def look_alikes(
    queries: NDArray[np.floating], own: Ints, embedding: NDArray[np.floating], labels: Ints, units: Ints, wanted: Ints
) -> Ints:
    """(Q,) the row of the image most like each query (Q, D) that is labelled as `wanted` (Q,); −1 where there is none.

    Images of the query's `own` unit (Q,) are passed over; −1 is none of the units (N,).
    """
    vectors, found = unit(embedding.astype(np.float32)), np.full(len(queries), -1)
    for label in np.unique(wanted):
        asked, rows = np.flatnonzero(wanted == label), np.flatnonzero(labels == label)
        if len(rows):
            cosines = unit(queries[asked].astype(np.float32)) @ vectors[rows].T
            cosines[own[asked][:, None] == units[rows][None]] = -np.inf
            best = cosines.argmax(axis=1)
            there = np.isfinite(cosines[np.arange(len(asked)), best])
            found[asked[there]] = rows[best[there]]
    return found
