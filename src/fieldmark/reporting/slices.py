"""Accuracy by slice: where a model does worse than elsewhere, and whether that could be chance.

These are pure functions. Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from fieldmark.evaluation.metrics import Score, wilson

__all__ = ["Grouping", "Slice", "Slicing", "accuracy_by_slice", "category", "quarters"]

LEAST = 5
"""The fewest images that a slice may have to be compared."""
MOST = 8
"""The most slices of one grouping that are shown."""
LEVEL = 0.05
"""The probability that any slice at all is marked if there are no differences."""


@final
@dataclass(frozen=True, eq=False)
class Grouping:
    """One way to divide images: a value for each, and the order in which the values are shown."""

    name: str
    values: NDArray[np.str_]
    """The values (N,), "" where unknown."""
    order: tuple[str, ...]


@final
@dataclass(frozen=True)
class Slice:
    """The images that share a value."""

    value: str
    right: int
    total: int
    rest: float
    """The accuracy on the other images of the grouping."""
    p: float
    """The probability of a difference as large as this by chance (Fisher's exact test), corrected for the number of
    slices that were compared (Holm 1979)."""

    @property
    def accuracy(self) -> Score:
        """The accuracy with its 95 % interval (Wilson 1927)."""
        return wilson(self.right, self.total)

    @property
    def differs(self) -> bool:
        return self.p < LEVEL


@final
@dataclass(frozen=True)
class Slicing:
    """The slices of one grouping."""

    name: str
    slices: tuple[Slice, ...]
    num_more: int
    """The number of slices that are not shown because they differ less."""
    num_small: int
    """The number of slices that are left out because they have fewer than LEAST images."""


def accuracy_by_slice(
    correct: NDArray[np.bool_], groupings: Sequence[Grouping], *, least: int = LEAST, most: int = MOST
) -> list[Slicing]:
    """The accuracy of each slice; correct (N,).

    Every slice of at least `least` images is compared with the other images of its grouping whose value is known, and
    all comparisons are corrected together. Of a grouping with more than `most` slices, those that differ most are
    kept. Groupings with nothing to compare are left out.
    """
    looked_at = [found for grouping in groupings if (found := _slices(correct, grouping, least))]
    corrected = iter(_holm([one.p for slicing in looked_at for one in slicing.slices]))
    return [
        _shortened(replace(slicing, slices=tuple(replace(one, p=next(corrected)) for one in slicing.slices)), most)
        for slicing in looked_at
    ]


def _slices(correct: NDArray[np.bool_], grouping: Grouping, least: int) -> Slicing | None:
    assert grouping.values.shape == correct.shape
    values, place = np.unique(grouping.values, return_inverse=True)
    totals = dict(zip(values.tolist(), np.bincount(place).tolist(), strict=True))
    rights = dict(zip(values.tolist(), np.bincount(place, correct).astype(int).tolist(), strict=True))
    known, known_right = (sum(counts.values()) - counts.get("", 0) for counts in (totals, rights))
    slices, num_small = [], 0
    for value in grouping.order:
        right, total = rights.get(value, 0), totals.get(value, 0)
        others, rest = known - total, known_right - right
        if 0 < total < least:
            num_small += 1
        elif total and others:
            p = fisher_exact([[right, total - right], [rest, others - rest]]).pvalue
            slices.append(Slice(value, right, total, rest / others, float(p)))
    return Slicing(grouping.name, tuple(slices), 0, num_small) if slices else None


def _holm(p: Sequence[float]) -> list[float]:
    """Correct p-values so that the chance of any false alarm among all tests is at most that of a single test."""
    corrected = np.zeros(len(p))
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    corrected[order] = np.maximum.accumulate(steps).clip(max=1)
    return [float(value) for value in corrected]


def _shortened(slicing: Slicing, most: int) -> Slicing:
    if len(slicing.slices) <= most:
        return slicing
    by_difference = set(sorted(slicing.slices, key=lambda one: (one.p, one.accuracy.high))[:most])
    kept = tuple(one for one in slicing.slices if one in by_difference)
    return replace(slicing, slices=kept, num_more=len(slicing.slices) - most)


def category(name: str, values: Sequence[str] | NDArray[np.str_]) -> Grouping:
    """A grouping by written values; numbers with many values are divided into quarters."""
    array = np.asarray(values, dtype=np.str_)
    present = sorted(set(array.tolist()) - {""})
    if len(present) > MOST and (numbers := _numbers(array)) is not None:
        return quarters(name, numbers)
    return Grouping(name, array, tuple(sorted(present, key=_number_first)))


def _numbers(values: NDArray[np.str_]) -> NDArray[np.float64] | None:
    try:
        return np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return None


def _number_first(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return np.inf, value


def quarters(name: str, numbers: NDArray[np.floating], show: Callable[[float], str] = "{:.4g}".format) -> Grouping:
    """Divide numbers (N,), NaN where unknown, into four slices of about equal size; equal numbers stay together.

    `show` formats a bound; bounds that look the same are merged.
    """
    known = np.isfinite(numbers)
    if not known.any():
        return Grouping(name, np.full(len(numbers), ""), ())
    # every bound is a value that occurs, so that no image lies between two slices
    edges = np.unique(np.quantile(numbers[known], [0.25, 0.5, 0.75], method="inverted_cdf"))
    edges = edges[edges < numbers[known].max()]
    edges = np.array([edge for at, edge in enumerate(edges) if at == 0 or show(edge) != show(edges[at - 1])])
    labels = [f"up to {show(edge)}" for edge in edges[:1]]
    labels += [f"over {show(low)} to {show(high)}" for low, high in pairwise(edges)]
    labels += [f"over {show(edge)}" for edge in edges[-1:]] or ["all"]
    found = np.array(labels)[np.searchsorted(edges, np.where(known, numbers, 0), side="left")]
    return Grouping(name, np.where(known, found, ""), tuple(labels))
