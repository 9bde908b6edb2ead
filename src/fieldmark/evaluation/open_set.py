"""Open-set identification: the name of the most similar known picture, or none, where some of those searched for are
unknown.

Every picture searches twice: for its own class, among all pictures but those of its own group (a burst, a camera), and
as a stranger, among all pictures of other classes. A search ends with a name if its highest cosine is above a
threshold. The false positive identification rate (FPIR) is the share of strangers that get a name; the false negative
identification rate (FNIR) at that threshold is the share of known ones that get none, or a wrong one (ISO/IEC 19795-1).
The AUROC says how well the highest cosine tells known ones from strangers, whatever the threshold.

Shapes: N pictures, D embedding, Q searches for what is known, R replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import DataError
from fieldmark.evaluation.outputs import unit
from fieldmark.evaluation.paired import Share, group_codes, interval, resamples

__all__ = ["RATES", "OpenSet", "open_set"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RATES = (0.01, 0.05)
"""The false positive identification rates at which misses are told."""
_BLOCK = 512
"""Searches whose cosines are in memory at a time."""


@final
@dataclass(frozen=True, eq=False)
class OpenSet:
    """What each picture found, as one that is known and as a stranger."""

    labels: Ints
    """(N,)."""
    own: Floats
    """(N,) the highest cosine to a picture of the own class and of another group; −inf where there is none."""
    other: Floats
    """(N,) the highest cosine to a picture of another class, which is what it finds as a stranger."""

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """(N,) whether there is another picture to be known by."""
        return self.own > -np.inf

    def scores(self, *, seed: int = 0, replicates: int = 1000) -> dict[str, Share | None]:
        """The share of known ones whose most similar picture is of their class, AUROC, and FNIR at each of RATES.

        Intervals are over classes, thresholds drawn anew with them. None for a rate that these strangers cannot show,
        since it is less than one of them.
        """
        every = np.ones(len(self.labels))
        whole = self._values(every)
        draws = np.array(
            [self._values(times) for times in resamples(self.labels, seed=seed, replicates=replicates)
             if times[self.is_known].any()]
        )  # fmt: skip
        names = ("known", "auroc", *(f"fnir@{rate:g}" for rate in RATES))
        shares = {
            name: Share(value, *interval(value, draw)).widened(len(np.unique(self.labels[self.is_known])))
            for name, value, draw in zip(names, whole, draws.T, strict=True)
        }
        few = {f"fnir@{rate:g}" for rate in RATES if rate * len(self.labels) < 1}
        return {name: None if name in few else share for name, share in shares.items()}

    def _values(self, times: Floats) -> list[float]:
        """The scores where each picture counts so many `times` (N,)."""
        known, right = self.is_known, self.own > self.other
        weights = times[known]
        found = [float(weights @ right[known] / weights.sum())]
        found.append(_auroc(np.maximum(self.own, self.other)[known], weights, self.other, times))
        for rate in RATES:
            named = right[known] & (self.own[known] > _refused(self.other, times, rate))
            found.append(float(1 - weights @ named / weights.sum()))
        return found


def open_set(embedding: NDArray[np.floating], labels: Ints, groups: Sequence[str] | None = None) -> OpenSet:
    """Search with each picture for its class and as a stranger, given embeddings (N, D) and labels (N,).

    `groups` (N,): pictures of one group do not find each other; "" is none. Raises DataError if there is but one class,
    or none with two pictures that may find each other.
    """
    vectors, group = unit(embedding.astype(np.float32)), group_codes([""] * len(labels) if groups is None else groups)
    own, other = np.full(len(labels), -np.inf), np.full(len(labels), -np.inf)
    for start in range(0, len(labels), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(labels)))
        alike = (vectors[rows] @ vectors.T).astype(np.float64)
        same = labels[rows, None] == labels
        apart = group[rows, None] != group
        own[rows] = np.where(same & apart, alike, -np.inf).max(axis=1)
        other[rows] = np.where(~same & apart, alike, -np.inf).max(axis=1)
    found = OpenSet(labels, own, other)
    if not (other > -np.inf).all():
        raise DataError(
            "Nothing tells strangers from known ones: some pictures have none of another label to be compared with",
            "Identification needs photographs of at least two labels.",
        )
    if not found.is_known.any():
        raise DataError(
            "Nobody is known: no label has two pictures that are not of one group",
            "Identification needs at least two photographs of a label.",
        )
    return found


def _refused(strangers: Floats, times: Floats, rate: float) -> float:
    """The highest cosine that must be refused, so that no larger a share of strangers (N,) than `rate` gets a name."""
    values, place = np.unique(-strangers, return_inverse=True)  # the highest first
    named = np.cumsum(np.bincount(place, times, minlength=len(values)))
    return float(-values[np.argmax(named > rate * named[-1] + 1e-9)])


def _auroc(known: Floats, weights: Floats, strangers: Floats, times: Floats) -> float:
    """How often a known one (Q,) is higher than a stranger (N,); half where they are equal."""
    values, place = np.unique(np.concatenate([known, strangers]), return_inverse=True)
    above = np.bincount(place[: len(known)], weights, minlength=len(values))
    below = np.bincount(place[len(known) :], times, minlength=len(values))
    return float(above @ (np.cumsum(below) - below / 2) / (weights.sum() * times.sum()))
