"""Label propagation: what photographs without labels are likely to show, by the labels of their look-alikes.

Iscen, Tolias, Avrithis & Chum, "Label propagation for deep semi-supervised learning" (2019), on the graph of Zhou et
al., "Learning with local and global consistency" (2004). Each photograph is joined to its nearest neighbours with the
weight max(cosine, 0)³; labels spread along Z = αSZ + (1 − α)Y, where S is the normalised graph, and a photograph is as
certain as 1 − H(z) / ln K, of the entropy of its row. Deviations, chosen by `benchmarks/few_labels.py`: α is 0.8 and
there are 5 neighbours (0.99 and 50 in the paper): with some dozens of photographs of a class, what comes from further
away is of another one. Classes are not balanced: nobody knows how many photographs of each are among those without a
label. And a photograph at which half as much arrives as at the median one is left out: what shows none of the classes
has neighbours of its own kind, to which no label leads.

Shapes: N photographs with labels, M without, D embedding, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.special import xlogy
from sklearn.preprocessing import normalize

from fieldmark.evaluation.blocks import blocks
from fieldmark.learning.training.probe import held_out_folds, regression

__all__ = ["Propagated", "Tried", "propagate", "tried"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NEIGHBOURS = 5
_POWER = 3
_ALPHA = 0.8
_REACHED = 0.5
_STEPS = 30
"""0.8 to this power is a thousandth."""
_CHUNK = 1024
"""Photographs whose cosines are in memory at a time."""


class Propagated(NamedTuple):
    """What M photographs are likely to show."""

    labels: Ints
    """(M,)."""
    certainty: Floats
    """(M,) up to 1; 0 for those that hardly any label reaches, which show perhaps nothing that is known."""


def propagate(known: NDArray[np.floating], labels: Ints, unknown: NDArray[np.floating], num_classes: int) -> Propagated:
    """The labels (N,) of embeddings (N, D), carried over to those without a label (M, D)."""
    if not len(unknown):
        return Propagated(np.empty(0, np.int64), np.empty(0))
    graph = _graph(normalize(np.concatenate([known, unknown]).astype(np.float32)))
    likeliest = np.zeros(len(unknown), np.int64)
    most, total, logs = np.zeros((3, len(unknown)))
    for some in blocks(num_classes, graph.shape[0]):  # labels spread class by class
        spread = _spread(graph, labels, some)[len(labels) :]
        own = spread.max(axis=1)
        likeliest = np.where(own > most, some.start + spread.argmax(axis=1), likeliest)
        most = np.maximum(most, own)
        total += spread.sum(axis=1)
        logs += xlogy(spread, spread).sum(axis=1)
    return Propagated(likeliest, _certainty(total, logs, len(np.unique(labels))))


class Tried(NamedTuple):
    """How many images with labels a probe answered that had not seen them, and how many of them were right."""

    images: int
    alone: int
    """Right by what was learnt from the others with labels."""
    taught: int
    """Right by what was learnt from the others and from photographs without labels."""


def tried(
    known: NDArray[np.floating],
    labels: Ints,
    groups: Ints,
    unknown: NDArray[np.floating],
    num_classes: int,
    *,
    strength: float,
    weight: float,
    seed: int = 0,
) -> Tried | None:
    """Whether photographs without labels (M, D) teach anything about those with labels (N, D), in three folds.

    Embeddings are as the probe reads them, `strength` is its C, and a photograph without a label counts `weight` times
    as certain as it is. None where no image can be held out.
    """
    images = alone = taught = 0
    for train, held in held_out_folds(labels, groups, 3, seed):
        if len(np.unique(labels[train])) < 2:
            continue
        found = propagate(known[train], labels[train], unknown, num_classes)
        used = found.certainty > 0
        both = np.concatenate([known[train], unknown[used]])
        names = np.concatenate([labels[train], found.labels[used]])
        weights = np.concatenate([np.ones(len(train)), weight * found.certainty[used]])
        images += len(held)
        alone += int((regression(known[train], labels[train], strength).predict(known[held]) == labels[held]).sum())
        taught += int((regression(both, names, strength, weights).predict(known[held]) == labels[held]).sum())
    return Tried(images, alone, taught) if images else None


def _graph(vectors: NDArray[np.float32]) -> csr_array:
    """(N, N) D^−½ (A + Aᵀ) D^−½, where A joins each vector to its nearest neighbours."""
    num = len(vectors)
    neighbours = min(_NEIGHBOURS, num - 1)
    nearest, weights = np.empty((num, neighbours), np.int64), np.empty((num, neighbours))
    for start in range(0, num, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, num))
        alike = vectors[rows] @ vectors.T
        alike[np.arange(len(rows)), rows] = -np.inf
        nearest[rows] = np.argpartition(-alike, neighbours - 1, axis=1)[:, :neighbours]
        weights[rows] = np.take_along_axis(alike, nearest[rows], axis=1).clip(0) ** _POWER
    joined = csr_array((weights.ravel(), (np.repeat(np.arange(num), neighbours), nearest.ravel())), shape=(num, num))
    both = joined + joined.T
    scale = diags_array(1 / np.sqrt(np.asarray(both.sum(axis=1)).ravel().clip(1e-12)))
    return csr_array(scale @ both @ scale)


def _spread(graph: csr_array, labels: Ints, some: slice) -> Floats:
    """(N + M, C) what arrives of some of the classes at each photograph; the first ones have labels (N,)."""
    given = np.zeros((graph.shape[0], some.stop - some.start))
    rows = np.flatnonzero((labels >= some.start) & (labels < some.stop))
    given[rows, labels[rows] - some.start] = 1
    spread = given
    for _ in range(_STEPS):
        spread = _ALPHA * (graph @ spread) + (1 - _ALPHA) * given
    return spread


def _certainty(total: Floats, logs: Floats, num_learnt: int) -> Floats:
    """(M,) 1 − H / ln K, for photographs at which enough arrives. Over all classes, z adds up to `total` and z ln z to
    `logs`, each (M,)."""
    sums = total.clip(1e-12)
    entropy = np.log(sums) - logs / sums
    reached = total > max(_REACHED * float(np.median(total)), 1e-12)
    return np.where(reached, 1 - entropy / np.log(max(num_learnt, 2)), 0.0).clip(0, 1)
