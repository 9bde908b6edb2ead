"""Accuracy by slice: where a model is worse than elsewhere, and whether that could be chance.

Pure functions. Shapes: N images.
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
"""Images that a slice needs to be looked at."""
MOST = 8
"""Slices that are shown of one grouping."""
LEVEL = 0.05
"""Chance that any slice at all is marked where there is no difference."""


@final
@dataclass(frozen=True, eq=False)
class Grouping:
    """One way to divide images: what each is, and the order in which the values are shown."""

    name: str
    values: NDArray[np.str_]
    """(N,) "" where unknown."""
    order: tuple[str, ...]


@final
@dataclass(frozen=True)
class Slice:
    """The images that share a value."""

    value: str
    right: int
    total: int
    rest: float
    """Accuracy of the grouping's other images."""
    p: float
    """Probability of a difference from them as large as this by chance (Fisher's exact test), corrected for the
    number of slices that were looked at (Holm 1979)."""

    @property
    def accuracy(self) -> Score:
        """With its 95 % interval (Wilson 1927)."""
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
    """Slices that differ less than those that are shown."""
    num_small: int
    """Slices of fewer than LEAST images, left out."""


def accuracy_by_slice(
    correct: NDArray[np.bool_], groupings: Sequence[Grouping], *, least: int = LEAST, most: int = MOST
) -> list[Slicing]:
    """How often each slice is right; correct (N,).

    Every slice of at least `least` images is compared with the other images of its grouping whose value is known, and
    all comparisons are corrected together. Of a grouping with more than `most` slices those that differ most are
    kept. Groupings that leave nothing to compare are left out.
    """
    looked_at = [found for grouping in groupings if (found := _slices(correct, grouping, least))]
    corrected = iter(_holm([one.p for slicing in looked_at for one in slicing.slices]))
    return [
        _shortened(replace(slicing, slices=tuple(replace(one, p=next(corrected)) for one in slicing.slices)), most)
        for slicing in looked_at
    ]


def _slices(correct: NDArray[np.bool_], grouping: Grouping, least: int) -> Slicing | None:
    assert grouping.values.shape == correct.shape
    known = grouping.values != ""
    slices, num_small = [], 0
    for value in grouping.order:
        inside = grouping.values == value
        right, total = int(correct[inside].sum()), int(inside.sum())
        others = known & ~inside
        if 0 < total < least:
            num_small += 1
        elif total and others.any():
            rest = int(correct[others].sum())
            p = fisher_exact([[right, total - right], [rest, int(others.sum()) - rest]]).pvalue
            slices.append(Slice(value, right, total, rest / int(others.sum()), float(p)))
    return Slicing(grouping.name, tuple(slices), 0, num_small) if slices else None


def _holm(p: Sequence[float]) -> list[float]:
    """Corrected so that the chance of a single false alarm among all is at most that of one."""
    corrected = np.zeros(len(p))
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    corrected[order] = np.maximum.accumulate(steps).clip(max=1)
    return [float(value) for value in corrected]


def _shortened(slicing: Slicing, most: int) -> Slicing:
    if len(slicing.slices) <= most:
        return slicing
    by_difference = sorted(slicing.slices, key=lambda one: (one.p, one.accuracy.high))[:most]
    kept = tuple(one for one in slicing.slices if one in by_difference)
    return replace(slicing, slices=kept, num_more=len(slicing.slices) - most)


def category(name: str, values: Sequence[str] | NDArray[np.str_]) -> Grouping:
    """A grouping by what is written; numbers of many values are divided into quarters."""
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
    """Numbers (N,), NaN where unknown, in four slices of about as many images; equal ones stay together.

    `show` writes a bound; where two bounds look the same they are one.
    """
    known = np.isfinite(numbers)
    if not known.any():
        return Grouping(name, np.full(len(numbers), ""), ())
    # a bound is a value that occurs, so that nothing lies between the slices
    edges = np.unique(np.quantile(numbers[known], [0.25, 0.5, 0.75], method="inverted_cdf"))
    edges = edges[edges < numbers[known].max()]
    edges = np.array([edge for at, edge in enumerate(edges) if at == 0 or show(edge) != show(edges[at - 1])])
    labels = [f"up to {show(edge)}" for edge in edges[:1]]
    labels += [f"over {show(low)} to {show(high)}" for low, high in pairwise(edges)]
    labels += [f"over {show(edge)}" for edge in edges[-1:]] or ["all"]
    found = np.array(labels)[np.searchsorted(edges, np.where(known, numbers, 0), side="left")]
    return Grouping(name, np.where(known, found, ""), tuple(labels))
