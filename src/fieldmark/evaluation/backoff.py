"""Backing off: the most specific name that meets the requested accuracy, or no name at all.

The rule: name the class if its calibrated probability reaches a threshold; else the likeliest genus (whose probability
is the sum of its classes'), and so on upwards; else abstain. An answer is right when it is true at its level.

The threshold comes from a fixed-sequence test, as in Angelopoulos, Bates, Candès, Jordan & Lei, "Learn then test"
(2021): thresholds on a grid that was fixed beforehand are tried from high to low, each by an exact binomial test
(Clopper & Pearson 1934) of "the answers given are right less often than asked", and the last before the first failure
is taken. So with 95 % confidence the promise holds, however many thresholds were tried.

Where the sequence opens decides its power: so high that few answers are given, or so low that they are hardly better
than asked, and even a good model fails. It opens at the threshold where a model that is right as often as it says would
have the smallest p-value, judged by its confidences alone: no label takes part in that choice.

Where no accuracy was asked for, 70, 80, 90 and 95 % are opened in this order, and the first failure ends this climb: a
fixed sequence, too. Thresholds then go lower at the accuracy that was reached, in a second sequence. The two share the
doubt, 2 and 3 %, and together they keep it. A false promise needs a false step of the climb (2 %), or else a false step
down. At the highest accuracy that the climb should have reached, that happens in 3 %. At a lower one it happens only
where the climb failed without need, since some of the surest answers were wrong; these count among the answers of the
step down, too, which then is the less likely to pass. So over all accuracies it stays at 3 %.

Risk and coverage: El-Yaniv & Wiener, "On the foundations of noise-free selective classification" (2010); the area under
their curve after Geifman, Uziel & El-Yaniv (2019).

Shapes: N images, K classes, G names of a level, L levels from the class upwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, betainc, ndtri

from fieldmark.core.wording import counted
from fieldmark.evaluation.paired import resamples

__all__ = [
    "ACCURACIES",
    "NONE",
    "Promise",
    "area_gain",
    "area_under_risk_coverage",
    "highest_promise",
    "images_for",
    "promise",
    "risk_coverage",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ACCURACIES = (0.95, 0.9, 0.8, 0.7)
"""The accuracies of given answers, of which the highest is promised that the held-out images can carry."""
DOUBT = 0.05
"""Probability that the promise fails."""
_CLIMB = 0.02
"""The share of it that the choice of an accuracy costs."""
_GRID = np.arange(200)[::-1] / 200
"""Of thresholds, from high to low."""
_MOST_TO_NAME = 1_000_000
"""Images. Who would need more should not look for images."""
NONE = -1
"""The level of no answer."""


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
    """How many of these are answered at the threshold; without one, at the threshold where the test opened."""
    num_right: int
    needed: int | None = None
    """How many images it would take if answers are right as often as they claim, or None if none claims enough."""

    @property
    def share(self) -> float:
        """The share of these images whose answers are vouched for; 0 without a threshold."""
        return 0.0 if self.threshold is None or not self.num_images else self.num_answered / self.num_images

    def levels(self, confidences: Floats) -> Ints:
        """(N,) the deepest level whose confidence (N, L) reaches the threshold, or NONE if no level does."""
        reached = confidences >= (math.inf if self.threshold is None else self.threshold)
        return np.where(reached.any(axis=1), reached.argmax(axis=1), NONE)

    @property
    def kept(self) -> str:
        """What is promised, in words, or "" if nothing is."""
        if self.threshold is None:
            return ""
        vouched = f"{100 * self.share:.0f} % of the images"
        return f"{100 * self.accuracy:g} % accuracy is promised for the names given, which {vouched} get"

    @property
    def problem(self) -> str:
        """The reason why nothing can be promised, in words, or "" if something can."""
        if self.threshold is not None:
            return ""
        asked = f"An accuracy of {100 * self.accuracy:g} % cannot be promised"
        images = counted(self.num_images, "independent validation image")
        if self.needed is None:
            return f"{asked}: no answer for {images} is certain enough"
        if self.needed > self.num_images:
            return f"{asked} from {images}: with answers as sure as these, it would take about {self.needed:,}"
        seen = f"{self.num_right:,} of the {counted(self.num_answered, 'most confident validation answer')}"
        return f"{asked}: only {seen} {'is' if self.num_right == 1 else 'are'} right"


def promise(confidences: Floats, right: Bools, accuracy: float) -> Promise:
    """Find the threshold on validation images from the confidence and correctness of each level, (N, L) each.

    Images must be independent of each other (one of each burst).
    """
    assert 0 < accuracy < 1
    opening = _opened(confidences, right, accuracy, DOUBT)
    return opening if opening.threshold is None else _lowered(confidences, right, opening, DOUBT)


def highest_promise(confidences: Floats, right: Bools) -> tuple[Promise, Promise | None]:
    """The highest of `ACCURACIES` that validation images can carry, and the next one, which they cannot; None after the
    highest of all. If they carry none, both are the lowest. Confidence and correctness are (N, L)."""
    kept: Promise | None = None
    for accuracy in reversed(ACCURACIES):
        opening = _opened(confidences, right, accuracy, _CLIMB)
        if opening.threshold is None:
            return (opening if kept is None else _lowered(confidences, right, kept, DOUBT - _CLIMB)), opening
        kept = opening
    assert kept
    return _lowered(confidences, right, kept, DOUBT - _CLIMB), None


def images_for(accuracy: float, *, asked: bool = False) -> int:
    """The least number of independent images that can carry a promise: enough if every answer is right.

    An accuracy that was `asked` for takes fewer, since nothing is chosen.
    """
    return math.ceil(math.log(DOUBT if asked else _CLIMB) / math.log(accuracy))


def _opened(confidences: Floats, right: Bools, accuracy: float, doubt: float) -> Promise:
    """The first test of a sequence."""
    tried = _tried(confidences, right, accuracy, _opening(confidences, accuracy))
    holds = _holds(tried.num_answered, tried.num_right, accuracy, doubt)
    return tried if holds else _unkept(tried, confidences, doubt)


def _lowered(confidences: Floats, right: Bools, opening: Promise, doubt: float) -> Promise:
    """The last promise, from the opening downwards, before the first that fails."""
    assert opening.threshold is not None
    found = opening
    for threshold in _GRID[np.searchsorted(-_GRID, -opening.threshold) + 1 :]:
        tried = _tried(confidences, right, opening.accuracy, float(threshold))
        if not _holds(tried.num_answered, tried.num_right, opening.accuracy, doubt):
            break
        found = tried
    return found


def _opening(confidences: Floats, accuracy: float) -> float:
    """The threshold at which the test is easiest for answers that are right as often as they claim."""
    given, claimed = _claims(confidences)
    right = (claimed * given).clip(1e-9)
    return float(_GRID[betainc(right, given - right + 1, accuracy).argmin()])  # the p-value, if right were whole


def _claims(confidences: Floats) -> tuple[Floats, Floats]:
    """For each threshold of the grid, how many images are answered (at least one), and the mean confidence."""
    given, claimed = np.ones(len(_GRID)), np.zeros(len(_GRID))
    for at, threshold in enumerate(_GRID):
        reached = confidences >= threshold
        answered = np.flatnonzero(reached.any(axis=1))
        if len(answered):
            given[at] = len(answered)
            claimed[at] = confidences[answered, reached[answered].argmax(axis=1)].mean()
    return given, claimed.clip(0, 1)


def _tried(confidences: Floats, right: Bools, accuracy: float, threshold: float) -> Promise:
    rule = Promise(accuracy, threshold, len(right), 0, 0)
    level = rule.levels(confidences)
    answered = level != NONE
    correct = right[np.flatnonzero(answered), level[answered]]
    return Promise(accuracy, threshold, len(right), int(answered.sum()), int(correct.sum()))


def _holds(answered: int, right: int, accuracy: float, doubt: float) -> bool:
    """Whether answers that are right less often than `accuracy` would hardly have been right so often."""
    return answered > 0 and bool(bdtrc(right - 1, answered, accuracy) <= doubt)


def _unkept(tried: Promise, confidences: Floats, doubt: float) -> Promise:
    """A promise that cannot be given, with the number of images that it would take, if that is any real number."""
    total = len(confidences)
    given, claimed = _claims(confidences)
    certain = claimed > tried.accuracy
    answers = _answers_needed(claimed[certain], tried.accuracy, doubt)
    least = (answers * total / given[certain]).min(initial=math.inf)
    needed = math.ceil(least) if least <= _MOST_TO_NAME else None
    return replace(tried, threshold=None, needed=needed)


def _answers_needed(claimed: Floats, accuracy: float, doubt: float) -> Floats:
    """The number of answers that pass the test if a share `claimed` of them is right, by the normal approximation, and
    never fewer than if all are."""
    spread = ndtri(1 - doubt) * math.sqrt(accuracy * (1 - accuracy))
    fewest = images_for(accuracy, asked=doubt == DOUBT)
    return np.maximum(fewest, (spread / (claimed - accuracy)) ** 2)


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

    own, others = _area(confidence, right), _area(other, other_right)

    def gain(times: Floats) -> float:
        return others(times) - own(times)

    drawn = resamples(np.arange(len(right)) if units is None else units, seed=seed, replicates=replicates)
    low, high = np.quantile([gain(times) for times in drawn], [0.025, 0.975])
    return gain(np.ones(len(right))), float(low), float(high)


def _area(confidence: Floats, right: Bools) -> Callable[[Floats], float]:
    """`area_under_risk_coverage` as a function of how often each image counts (N,); images are sorted only once."""
    _, group = np.unique(-confidence, return_inverse=True)

    def area(times: Floats) -> float:
        counts = np.bincount(group, times)
        wrong_share = np.bincount(group, times * ~right) / counts.clip(1)
        shares = np.repeat(wrong_share, counts.astype(np.int64))
        return float((np.cumsum(shares) / np.arange(1, len(shares) + 1)).mean())

    return area
