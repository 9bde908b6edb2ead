"""Which photographs to label next.

With few labels, nobody knows what the model does not know, so the centres of what was not labelled yet come first
(Hacohen, Dekel & Weinshall, "Active learning on a budget", 2022). Later those count whose two likeliest classes are
closest (the margin), and within a batch they differ from each other: among ten times as many as are asked for, k-means,
weighted by uncertainty, finds as many centres, and the photograph nearest to each is asked (Zhdanov, "Diverse
mini-batch active learning", 2019).

Shapes: N photographs without labels, M with labels, D embedding, K classes.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from fieldmark.evaluation.outputs import unit

__all__ = ["FEW", "choose", "is_early", "quotas", "top_margin", "typical", "uncertain"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEW = 3
"""Labelled photographs per class below which the model's uncertainty says little."""
_TIMES = 10
_CENTRES = 500
_MANY = 20_000
_LEAST_WEIGHT = 1e-3


def top_margin(probabilities: Floats) -> Floats:
    """(N,) the largest minus the second largest probability of (N, K): 0 where two classes are equally likely."""
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])


def is_early(num_labelled: int, num_classes: int) -> bool:
    """Whether so few are labelled that centres are asked about rather than what the model is unsure of."""
    return num_labelled < FEW * num_classes


def choose(
    probabilities: Floats,
    embedding: NDArray[np.floating],
    labelled: NDArray[np.floating],
    labels: Ints,
    most: int,
    *,
    balanced: bool = False,
    seed: int = 0,
) -> Ints:
    """At most `most` of N photographs, given calibrated probabilities (N, K) and embeddings (N, D).

    `labelled` (M, D) and `labels` (M,) are what is labelled already. If `balanced`, classes that have few labels are
    asked for first, as far as the model can guess them.
    """
    if is_early(len(labels), probabilities.shape[1]) and not balanced:
        return typical(embedding, labelled, most, seed=seed)
    margins = top_margin(probabilities)
    if not balanced:
        return uncertain(embedding, margins, most, seed=seed)
    guessed = probabilities.argmax(axis=1)
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    shares = quotas(counts, np.bincount(guessed, minlength=len(counts)), most)
    chosen = [
        rows[uncertain(embedding[rows], margins[rows], int(share), seed=seed)]
        for k, share in enumerate(shares)
        if share and len(rows := np.flatnonzero(guessed == k))
    ]
    return np.concatenate([np.empty(0, np.int64), *chosen])


def typical(embedding: NDArray[np.floating], labelled: NDArray[np.floating], most: int, *, seed: int = 0) -> Ints:
    """The photographs nearest to the centres of the largest clusters in which nothing is labelled yet."""
    num = len(embedding)
    if num <= most:
        return np.arange(num)
    both = np.concatenate([embedding, labelled]) if len(labelled) else embedding
    vectors = unit(both.astype(np.float32))
    clusters = min(len(labelled) + most, max(_CENTRES, most), num)
    place, distances = _clustered(vectors, clusters, None, seed)
    known = np.bincount(place[num:], minlength=clusters)
    sizes = np.bincount(place[:num], minlength=clusters)
    nearest = _nearest(place[:num], distances[:num], clusters)
    order = sorted(np.flatnonzero(sizes), key=lambda k: (known[k], -sizes[k]))
    return _filled([int(nearest[k]) for k in order[:most]], distances[:num], most)


def uncertain(embedding: NDArray[np.floating], margins: Floats, most: int, *, seed: int = 0) -> Ints:
    """Photographs with small margins (N,) that differ from each other."""
    pool = np.argsort(margins, kind="stable")[: _TIMES * most]
    if len(pool) <= most:
        return pool
    weights = (1 - margins[pool]).clip(_LEAST_WEIGHT)
    place, distances = _clustered(unit(embedding[pool].astype(np.float32)), most, weights, seed)
    nearest = _nearest(place, distances, most)
    return pool[_filled([int(one) for one in nearest if one >= 0], margins[pool], most)]


def quotas(counts: Ints, available: Ints, most: int) -> Ints:
    """(K,) how many of each class to ask for, so that what is labelled, `counts` (K,), becomes as even as it can; no
    more than are `available` (K,)."""
    shares = np.zeros(len(counts), np.int64)
    for _ in range(min(most, int(available.sum()))):
        level = np.where(shares < available, counts + shares, np.iinfo(np.int64).max)
        shares[level.argmin()] += 1
    return shares


def _clustered(vectors: NDArray[np.float32], clusters: int, weights: Floats | None, seed: int) -> tuple[Ints, Floats]:
    """The cluster of each vector (n,), and its distance from the centre (n,)."""
    kind = MiniBatchKMeans if len(vectors) > _MANY else KMeans
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different photographs than clusters
        found = kind(clusters, n_init=1, random_state=seed).fit(vectors, sample_weight=weights)
    place = found.labels_.astype(np.int64)
    return place, np.linalg.norm(vectors - found.cluster_centers_[place], axis=1).astype(np.float64)


def _nearest(place: Ints, distances: Floats, clusters: int) -> Ints:
    """(clusters,) the row nearest to each centre, −1 for an empty one."""
    order = np.argsort(distances, kind="stable")[::-1]
    nearest = np.full(clusters, -1)
    nearest[place[order]] = order  # of several, the last that is written is the nearest
    return nearest


def _filled(chosen: list[int], values: Floats, most: int) -> Ints:
    """`chosen`, and the rows with the smallest values beside them until there are `most`."""
    order = np.argsort(values, kind="stable")
    rest = order[~np.isin(order, chosen)][: max(most - len(chosen), 0)]
    return np.array([*chosen, *rest], np.int64)
