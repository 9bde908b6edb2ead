"""Same or different: how often a comparison of two pictures is right at a threshold, and what few classes cannot show.

A pair of one class is genuine, a pair of two is an impostor. At a threshold, the false-accept rate (FAR) is the share
of impostors that are accepted, the true-accept rate (TAR) that of genuine pairs, and the equal error rate (EER) is
where FAR is 1 − TAR (ISO/IEC 19795-1). Pairs share pictures, and pictures share classes, so intervals come from drawing
whole classes again (Bolle, Ratha & Pankanti, "Error analysis of pattern recognition systems: the subsets bootstrap",
2004).

Which pairs are alike depends on the classes far more than on the photographs: 12 classes of 5 photographs each give a
threshold as good as 12 of 40 do, and 5 classes of 40 a poor one. So a rate is promised where its interval over classes
is narrow enough, however many pairs there are.

Shapes: N pictures, K classes, P pairs, R replicates, T thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import DataError, RunError
from fieldmark.evaluation.paired import Share, drawn, interval

__all__ = [
    "RATES",
    "Judged",
    "Point",
    "Verification",
    "at_rate",
    "check_rate",
    "lowest_accepted",
    "promised",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""False-accept rates that are told, if they can be promised."""
USUAL = 0.01
"""The rate if none is asked for; the next higher one where the classes cannot show it."""
_REPLICATES = 500
_WIDEST = 3
"""How many times the rate its interval may reach."""
_FEWEST_CLASSES = 5
"""Fewer draw no interval worth the name."""
_FEWEST_ERRORS = 3
"""A threshold that fewer impostors pass is set by them alone."""
_STEPS = 200
"""Thresholds at which an interval of the equal error rate is looked for."""


@final
@dataclass(frozen=True)
class Point:
    """What happens at a threshold, with 95 % intervals over classes."""

    threshold: float
    false_accepts: Share
    true_accepts: Share


class Judged(Protocol):
    """Decisions by a threshold, of which it is known which would be right."""

    @property
    def num_classes(self) -> int: ...

    @property
    def what(self) -> str:
        """The rate in words: "false-accept rate"."""
        ...

    def threshold(self, rate: float) -> float:
        """The lowest score that is accepted if no larger a share of impostors may be."""
        ...

    def num_accepted(self, threshold: float) -> int:
        """How many impostors are accepted."""
        ...

    def at(self, threshold: float) -> Point: ...


def at_rate(judged: Judged, rate: float) -> tuple[Point, bool]:
    """What happens at the threshold of this rate, and whether the classes show that it will with others."""
    found = judged.at(judged.threshold(rate))
    return found, (
        judged.num_classes >= _FEWEST_CLASSES
        and judged.num_accepted(found.threshold) >= _FEWEST_ERRORS
        and found.false_accepts.high <= _WIDEST * rate
    )


def check_rate(judged: Judged, rate: float | None) -> None:
    """Raise RunError for a rate that is no share."""
    if rate is not None and not 0 < rate < 1:
        raise RunError(f"A {judged.what} of {rate:g} is no share", "Expected one between 0 and 1, such as 0.01.")


def promised(judged: Judged, rate: float | None = None) -> tuple[float, Point]:
    """A rate and what happens at its threshold: the rate asked for, or the usual one or the next higher one that can be
    promised.

    Raises RunError for a rate that is no share, or that cannot be promised.
    """
    check_rate(judged, rate)
    asked = [one for one in RATES if one >= USUAL] if rate is None else [rate]
    for one in asked:
        found, holds = at_rate(judged, one)
        if holds:
            return one, found
    least = next((one for one in RATES if at_rate(judged, one)[1]), None)
    classes = f"{judged.num_classes:,} class{'' if judged.num_classes == 1 else 'es'}"
    raise RunError(
        f"A {judged.what} of {100 * asked[0]:g} % cannot be promised from {classes}: "
        + ("no rate can" if least is None else f"the least is {100 * least:g} %"),
        "Ask for a higher rate, or compare photographs of more classes: they count for more than photographs do.",
    )


def lowest_accepted(descending: Floats, is_impostor: NDArray[np.bool_], rate: float) -> float:
    """The lowest of the scores that may be accepted if no more than this share of impostors may be."""
    ends = np.append(descending[1:] != descending[:-1], True)  # equal scores are accepted together
    accepted = np.cumsum(is_impostor)
    few = np.flatnonzero(ends & (accepted <= rate * accepted[-1] + 1e-9))
    return float(descending[few[-1]]) if len(few) else float(np.nextafter(descending[0], np.inf))


@final
@dataclass(frozen=True, eq=False)
class Verification:
    """Scored pairs, in descending order of their scores."""

    scores: Floats
    """(P,) higher is more alike."""
    pairs: Ints
    """(P,) the numbers of the two classes, as one: first · K + second."""
    num_classes: int
    num_pictures: int
    what: str = "false-accept rate"

    @classmethod
    def of(cls, scores: Floats, labels: Ints, groups: Ints | None = None) -> Self:
        """All pairs of N pictures with these scores (N, N), NaN where two are not compared, and labels (N,).

        Those of one group (N,), such as a burst, are not compared either. Raises DataError if there is no genuine pair
        or no impostor.
        """
        one, other = np.triu_indices(len(labels), 1)
        compared = ~np.isnan(scores[one, other])
        if groups is not None:
            compared &= groups[one] != groups[other]
        one, other = one[compared], other[compared]
        present, codes = np.unique(labels, return_inverse=True)
        same = codes[one] == codes[other]
        if same.all() or not same.any():
            raise DataError(
                "Comparisons need pairs of one class and pairs of two, and these photographs have only "
                + ("the former" if same.all() and len(same) else "the latter"),
                "Give two or more photographs, of different groups, of each of two or more classes.",
            )
        found = scores[one, other]
        order = np.argsort(-found, kind="stable")
        pairs = (codes[one] * len(present) + codes[other])[order]
        return cls(found[order], pairs, len(present), len(labels))

    @property
    def genuine(self) -> NDArray[np.bool_]:
        """(P,) whether each pair is of one class."""
        same: NDArray[np.bool_] = self.pairs // self.num_classes == self.pairs % self.num_classes
        return same

    def rates(self) -> tuple[Floats, Floats]:
        """(P,) FAR and TAR if all pairs down to each are accepted: the ROC."""
        same = self.genuine
        return np.cumsum(~same) / (~same).sum(), np.cumsum(same) / same.sum()

    def equal_error_rate(self) -> Share:
        """Where as many impostors are accepted as genuine pairs are rejected, as shares."""
        far, tar = self.rates()
        at = int(np.argmin(np.abs(far - (1 - tar))))
        value = float((far[at] + 1 - tar[at]) / 2)
        around = np.linspace(0, len(self.scores) - 1, _STEPS).astype(np.int64)
        fars, tars = self._resampled(self.scores[np.unique(around)])
        nearest = np.argmin(np.abs(fars + tars - 1), axis=1)
        rows = np.arange(len(fars))
        draws = (fars[rows, nearest] + 1 - tars[rows, nearest]) / 2
        return Share(value, *interval(value, draws))

    def threshold(self, rate: float) -> float:
        """The lowest score that is accepted if no larger a share of impostors may be."""
        return lowest_accepted(self.scores, ~self.genuine, rate)

    def num_accepted(self, threshold: float) -> int:
        """How many impostors are accepted."""
        return int(((self.scores >= threshold) & ~self.genuine).sum())

    def at(self, threshold: float) -> Point:
        """The rates at a threshold."""
        accepted, same = self.scores >= threshold, self.genuine
        values = float(accepted[~same].mean()), float(accepted[same].mean())
        draws = self._resampled(np.array([threshold]))
        far, tar = (Share(value, *interval(value, one[:, 0])) for value, one in zip(values, draws, strict=True))
        apart = self.num_pictures // 2  # pairs that have no picture in common
        return Point(threshold, far.widened(apart), tar.widened(min(apart, int(same.sum()))))

    def _resampled(self, thresholds: Floats) -> tuple[Floats, Floats]:
        """(R, T) FAR and TAR at these descending thresholds, in replicates of the classes that have both."""
        size, times = self.num_classes, np.stack([*drawn(self.num_classes, replicates=_REPLICATES)])
        ends = np.searchsorted(-self.scores, -np.append(thresholds, -np.inf), side="right")
        taken, counts, start = np.zeros((size, size)), list[tuple[Floats, Floats]](), 0
        for end in ends:
            taken = taken + np.bincount(self.pairs[start:end], minlength=size * size).reshape(size, size)
            own = np.diag(taken)
            counts.append((((times @ (taken - np.diag(own))) * times).sum(axis=1), times @ own))
            start = end
        impostors, genuine = (np.stack(one, axis=1) for one in zip(*counts, strict=True))
        usable = (impostors[:, -1] > 0) & (genuine[:, -1] > 0)
        far, tar = (one[usable, :-1] / one[usable, -1:] for one in (impostors, genuine))
        return far, tar
