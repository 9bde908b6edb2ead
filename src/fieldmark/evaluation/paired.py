"""How models that answered the same images compare.

An interval says how far a figure would move with other images of the same kind. It says nothing about other trainings
of the same model: that is what the spread over seeds shows.

Shapes: N images, C columns (one figure each), R replicates, S seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Difference", "Share", "drawn", "gain", "group_codes", "interval", "resampled_means", "resamples"]

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Difference:
    """The difference of two models, with the 95 % interval over images, and the difference for each common seed."""

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...] = ()

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    @property
    def in_every_seed(self) -> bool:
        """Whether the difference of each seed has the sign of the mean."""
        return all(one * self.value > 0 for one in self.by_seed)

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high, "by_seed": list(self.by_seed)}


@final
@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval, from 0 to 1."""

    value: float
    low: float
    high: float

    def widened(self, number: int) -> Share:
        """Where nothing or everything of so many independent cases was counted, draws vary no more: then the interval
        reaches as far as 95 % certainty does (the rule of three)."""
        low = max(0.0, 1 - 3 / max(1, number)) if self.value == 1 else self.low
        high = min(1.0, 3 / max(1, number)) if self.value == 0 else self.high
        return Share(self.value, min(low, self.low), max(high, self.high))

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f}–{100 * self.high:.1f})"


def group_codes(names: Sequence[str]) -> NDArray[np.int64]:
    """(N,) a number for each group (a burst, a camera); pictures of no group, "", have a number each."""
    text = np.array(names, dtype=object)
    codes = np.unique(text.astype(str), return_inverse=True)[1]
    return np.where(text == "", -1 - np.arange(len(text)), codes).astype(np.int64)


def drawn(num_units: int, *, seed: int = 0, replicates: int) -> Iterator[Floats]:
    """(U,) how often each unit counts, in each bootstrap replicate (Efron 1979)."""
    rng = np.random.default_rng(seed)
    for _ in range(replicates):
        yield np.bincount(rng.integers(num_units, size=num_units), minlength=num_units).astype(np.float64)


def resamples(units: NDArray[np.integer], *, seed: int, replicates: int) -> Iterator[Floats]:
    """(N,) how often each image counts, in each bootstrap replicate (Efron 1979).

    Images of one unit (N,) (a burst, a patient) are drawn together, since they are not independent.
    """
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    unit = np.argsort(np.argsort(first))[inverse]  # by first row, so that units of one image each are the rows
    for times in drawn(len(first), seed=seed, replicates=replicates):
        yield times[unit]


def resampled_means(
    values: Floats, units: NDArray[np.integer], *, seed: int = 0, replicates: int = 2000
) -> NDArray[np.float64]:
    """(R, C) the means of `values` (N, C) over bootstrap replicates of the images (Efron 1979).

    All columns see the same replicates, so that the difference of two is paired. Images of one unit (N,) (a burst,
    near-duplicates) are drawn together, since they are not independent.
    """
    assert values.ndim == 2
    assert units.shape == values.shape[:1]
    unit = np.unique(units, return_inverse=True)[1]
    counts = np.bincount(unit)
    sums = np.stack([np.bincount(unit, column) for column in values.T], axis=1)  # (U, C)
    return np.stack([t @ sums / (t @ counts) for t in drawn(len(counts), seed=seed, replicates=replicates)])


def interval(value: float, replicates: Floats) -> tuple[float, float]:
    """The 95 % percentile interval of `replicates` (R,), around the value that was found."""
    low, high = np.quantile(replicates, [0.025, 0.975])
    return min(float(low), value), max(float(high), value)


def gain(before: NDArray[np.bool_], after: NDArray[np.bool_], units: NDArray[np.integer], *, seed: int) -> Difference:
    """How many more of the same images (N,), as a share, are right after than before. Images of one unit (N,) are not
    independent."""
    right = np.stack([before, after], axis=1).astype(np.float64)
    means = right.mean(axis=0)
    value = float(means[1] - means[0])
    return Difference(value, *interval(value, np.diff(resampled_means(right, units, seed=seed), axis=1)[:, 0]))
