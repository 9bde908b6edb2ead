"""Backing off: the most specific name that meets the requested accuracy, or no name at all.

The rule: name the class if its calibrated probability reaches a threshold; else the likeliest genus (whose probability
is the sum of its classes'), and so on upwards; else abstain. An answer is right when it is true at its level.

The threshold comes from a fixed-sequence test, as in Angelopoulos, Bates, Candès, Jordan & Lei, "Learn then test"
(2021): thresholds on a grid that was fixed beforehand are tried from high to low, each by an exact binomial test
(Clopper & Pearson 1934) of "the answers given are right less often than asked", and the last before the first failure
is taken. So with 95 % confidence the promise holds, however many thresholds were tried. The sequence begins at the
accuracy itself (rounded down to the grid): at least that share of the calibrated answers that reach it should be right.

Risk and coverage: El-Yaniv & Wiener, "On the foundations of noise-free selective classification" (2010); the area under
their curve after Geifman, Uziel & El-Yaniv (2019).

Shapes: N images, K classes, G names of a level, L levels from the class upwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, betaincinv

from fieldmark.core.wording import counted
from fieldmark.evaluation.paired import resamples

__all__ = [
    "NONE",
    "Promise",
    "area_gain",
    "area_under_risk_coverage",
    "promise",
    "risk_coverage",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

DOUBT = 0.05
"""Probability that the promise fails."""
STEP = 0.005
"""Of the grid of thresholds."""
NONE = -1
"""The level of no answer."""
_MOST_IMAGES = 10_000_000


@dataclass(frozen=True)
class Promise:
    """A promise about how many of the given answers are right."""

    accuracy: float
    """The accuracy that was requested."""
    threshold: float | None
    """The probability that an answer must reach, or None if nothing can be promised."""
    num_images: int
    """The number of images that the promise was tested on."""
    num_answered: int
    """How many of these are answered at the threshold; without one, at the threshold where the test began."""
    num_right: int
    needed: int | None = None
    """How many images the promise would need, judging by the share of right answers seen, or None if more images would
    not help."""

    @property
    def lower_bound(self) -> float:
        """A bound that the accuracy of the given answers exceeds with 95 % confidence (Clopper & Pearson)."""
        wrong = self.num_answered - self.num_right
        return float(betaincinv(self.num_right, wrong + 1, DOUBT)) if self.num_right else 0.0

    def levels(self, confidences: Floats) -> Ints:
        """(N,) the deepest level whose confidence (N, L) reaches the threshold, or NONE if no level does."""
        reached = confidences >= (math.inf if self.threshold is None else self.threshold)
        return np.where(reached.any(axis=1), reached.argmax(axis=1), NONE)

    @property
    def problem(self) -> str:
        """The reason why nothing can be promised, in words, or "" if something can."""
        if self.threshold is not None:
            return ""
        asked = f"An accuracy of {100 * self.accuracy:g} % cannot be promised"
        if self.needed is None:
            share = 100 * self.num_right / self.num_answered
            if self.num_answered == 1:
                return f"{asked}: the most confident validation answer is wrong"
            return f"{asked}: {share:.1f} % of the {self.num_answered:,} most confident validation answers are right"
        images = counted(self.num_images, "independent validation image")
        return f"{asked} from {images}: it would take about {self.needed:,}"


def promise(confidences: Floats, right: Bools, accuracy: float) -> Promise:
    """Find the threshold on validation images from the confidence and correctness of each level, (N, L) each.

    Images must be independent of each other (one of each burst).
    """
    assert 0 < accuracy < 1
    found: Promise | None = None
    threshold = math.floor(round(accuracy / STEP, 6)) * STEP  # one grid for all accuracies, so that thresholds compare
    while threshold >= 0:
        tried = _tried(confidences, right, accuracy, threshold)
        if not _holds(tried.num_answered, tried.num_right, accuracy):
            return found or _unkept(tried)
        found = tried
        threshold = round(threshold - STEP, 9)
    assert found
    return found


def _tried(confidences: Floats, right: Bools, accuracy: float, threshold: float) -> Promise:
    rule = Promise(accuracy, threshold, len(right), 0, 0)
    level = rule.levels(confidences)
    answered = level != NONE
    correct = right[np.flatnonzero(answered), level[answered]]
    return Promise(accuracy, threshold, len(right), int(answered.sum()), int(correct.sum()))


def _holds(answered: int, right: int, accuracy: float) -> bool:
    """Whether answers that are right less often than `accuracy` would hardly have been right so often."""
    return answered > 0 and bool(bdtrc(right - 1, answered, accuracy) <= DOUBT)


def _unkept(tried: Promise) -> Promise:
    """A promise that cannot be given, with the number of images that it would take."""
    answered, right, total = tried.num_answered, tried.num_right, tried.num_images
    share = right / answered if answered else 1.0
    needed = None
    if share > tried.accuracy:
        enough = _answers_needed(share, tried.accuracy)
        needed = math.ceil(enough * (total / answered if answered else 1))
    return Promise(tried.accuracy, None, total, answered, right, needed)


def _answers_needed(share: float, accuracy: float) -> int:
    """The least number of answers of which `share` are right that passes the test."""
    low, high = 1, 1
    while high < _MOST_IMAGES and not _holds(high, math.floor(share * high), accuracy):
        low, high = high, 2 * high
    while high - low > 1:  # all but monotone: rounding down moves it by a few images
        middle = (low + high) // 2
        if _holds(middle, math.floor(share * middle), accuracy):
            high = middle
        else:
            low = middle
    return high


def risk_coverage(confidence: Floats, right: Bools) -> Floats:
    """(N,) the share of wrong answers among the 1, 2, …, N most confident ones; confidence and right are (N,).

    Equally confident answers count as their mean, whatever their order.
    """
    order = np.argsort(-confidence, kind="stable")
    _, group = np.unique(-confidence, return_inverse=True)
    wrong_share = np.bincount(group, ~right) / np.bincount(group)
    risk: Floats = np.cumsum(wrong_share[group[order]]) / np.arange(1, len(right) + 1)
    return risk


def area_under_risk_coverage(confidence: Floats, right: Bools) -> float:
    """Mean risk over all coverages; lower is better."""
    return float(risk_coverage(confidence, right).mean())


def area_gain(
    confidence: Floats,
    right: Bools,
    other: Floats,
    other_right: Bools,
    units: Ints | None = None,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """How much larger the area of `other` is, with the 95 % interval over bootstrap replicates of the units.

    Without units, each image is its own.
    """

    def gain(rows: Ints) -> float:
        own = area_under_risk_coverage(confidence[rows], right[rows])
        return area_under_risk_coverage(other[rows], other_right[rows]) - own

    rows = np.arange(len(right))
    times = resamples(rows if units is None else units, seed=seed, replicates=replicates)
    low, high = np.quantile([gain(np.repeat(rows, one.astype(np.int64))) for one in times], [0.025, 0.975])
    return gain(rows), float(low), float(high)
