"""Candidates that cannot be ruled out: sets of classes that contain the right one as often as requested.

APS: Romano, Sesia & Candès, "Classification with valid and adaptive coverage" (2020). RAPS: Angelopoulos, Bates, Malik
& Jordan, "Uncertainty sets for image classifiers using conformal prediction" (2021). A class is in the set unless
the more likely ones together are probable enough; RAPS penalises classes far down the order. One deviation: nothing is
randomised (u = 0), so the same picture always has the same set and no set is empty. As a result, if the first class
alone is right more often than requested, the sets contain only that class and are right more often than requested.

Class-conditional (Vovk 2012): a class with enough calibration images has its own threshold, so that its coverage
does not depend on the others; all other classes share one.

The promise requires calibration images that resemble new ones and are independent of each other. It holds on average
over calibration and new images; `coverage_interval` says how far the coverage of one calibration may be from it.

Shapes: N images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldmark.evaluation.blocks import blocks, by_blocks

__all__ = [
    "ENOUGH",
    "Penalty",
    "coverage_interval",
    "have_their_own",
    "images_needed",
    "mean_sizes",
    "score",
    "set_limits",
    "set_the_shared",
    "sets",
    "standing",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ENOUGH = 30
"""A class with this many calibration images has its own threshold: at 90 %, its coverage is then right on average, and
between 77.9 and 97.9 % in 95 of 100 calibrations. With fewer, a threshold shared with easier classes may be as far off,
always to the same side: of rare skin lesions, sets for 90 % held 53 %."""


@dataclass(frozen=True)
class Penalty:
    """What RAPS adds to the score of a class: `weight` for each rank beyond the first `free`. APS adds nothing."""

    weight: float = 0.0
    free: int = 1


def standing(probabilities: Floats, labels: Ints) -> tuple[Floats, Ints]:
    """The total probability of all classes more likely than the labels (N,), and their number; (N,) each.

    probabilities (N, K). Among equally likely classes, the lower index counts as more likely, as in argmax.
    """
    found = np.empty(len(labels)), np.empty(len(labels), np.int64)
    for rows in blocks(*probabilities.shape):
        for kept, values in zip(found, _standings(probabilities[rows]), strict=True):
            kept[rows] = np.take_along_axis(values, labels[rows, None], axis=1)[:, 0]
    return found


def score(above: Floats, rank: Ints, penalty: Penalty) -> Floats:
    """How surprising the class would be: `above`, plus what RAPS adds for its rank (0 is the most likely)."""
    return above + penalty.weight * np.maximum(0, rank + 1 - penalty.free)


def set_limits(scores: Floats, labels: Ints, num_classes: int, coverage: float) -> Floats:
    """(K,) the largest score at which a class is kept, from the scores (N,) of the right classes (N,).

    A class with many images has a limit of its own. The others share one, which goes by all images where they have too
    few together. Limits are infinite if all images are too few for the coverage; see `images_needed`.
    """
    assert 0 < coverage < 1
    counts = np.bincount(labels, minlength=num_classes)
    limits = np.full(num_classes, _quantile(scores[set_the_shared(counts, coverage)[labels]], coverage))
    for label in np.flatnonzero(have_their_own(counts, coverage)):
        limits[label] = _quantile(scores[labels == label], coverage)
    return limits


def have_their_own(counts: Ints, coverage: float) -> NDArray[np.bool_]:
    """(K,) which classes have a threshold of their own, by their number of calibration images (K,)."""
    enough: NDArray[np.bool_] = counts >= max(ENOUGH, images_needed(coverage))
    return enough


def set_the_shared(counts: Ints, coverage: float) -> NDArray[np.bool_]:
    """(K,) whose images set the threshold that classes without one of their own share: theirs, or where these are too
    few together, those of all classes."""
    rest = ~have_their_own(counts, coverage)
    return rest if counts[rest].sum() >= images_needed(coverage) else np.ones_like(rest)


def sets(probabilities: Floats, limits: Floats, penalty: Penalty) -> NDArray[np.bool_]:
    """(N, K) whether a class cannot be ruled out; probabilities (N, K), limits (K,)."""
    return by_blocks(lambda some: _inside(some, *_standings(some), limits, penalty), probabilities)


def mean_sizes(probabilities: Floats, rules: Sequence[tuple[Floats, Penalty]]) -> list[float]:
    """The mean number of classes in the `sets` of each rule (limits, penalty), for probabilities (N, K)."""
    total = np.zeros(len(rules))
    for rows in blocks(*probabilities.shape):
        some = probabilities[rows]
        standings = _standings(some)
        total += [_inside(some, *standings, limits, penalty).sum() for limits, penalty in rules]
    return (total / len(probabilities)).tolist()


def _inside(probabilities: Floats, above: Floats, rank: Ints, limits: Floats, penalty: Penalty) -> NDArray[np.bool_]:
    inside = score(above, rank, penalty) <= limits
    inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True  # an empty set would name no candidates
    return inside


def images_needed(coverage: float) -> int:
    """The number of calibration images below which only the set of all classes keeps the promise."""
    return math.ceil(round(coverage / (1 - coverage), 9))


def coverage_interval(
    calibration: Sequence[int], tested: Sequence[int], coverage: float, *, level: float = 0.95
) -> tuple[float, float]:
    """The interval in which the coverage of the tested images lies with probability `level`, for one calibration.

    `calibration` and `tested` have one number for each threshold. The number of images covered is beta-binomial (Vovk
    2012; Angelopoulos & Bates 2021), or a sum of such numbers if there are several thresholds. The interval holds for
    scores without ties; with ties the coverage can only be higher.
    """
    from scipy.stats import betabinom  # slow to import, and no answer needs it

    distribution = np.ones(1)
    for num_calibration, num_tested in zip(calibration, tested, strict=True):
        kept = _kept(num_calibration, coverage)
        counts = np.arange(num_tested + 1)
        if kept > num_calibration:
            own = (counts == num_tested).astype(np.float64)
        else:
            own = betabinom.pmf(counts, num_tested, kept, num_calibration + 1 - kept)
        distribution = np.convolve(distribution, own)
    cumulative, total = np.cumsum(distribution), sum(tested)
    assert total, "no tested images"
    low = int(np.searchsorted(cumulative, (1 - level) / 2))
    high = int(np.searchsorted(cumulative, (1 + level) / 2))
    return low / total, min(high, total) / total


def _kept(num_images: int, coverage: float) -> int:
    """Of the sorted scores, the place of the threshold, counted from 1."""
    return math.ceil(round((num_images + 1) * coverage, 9))


def _quantile(scores: Floats, coverage: float) -> float:
    place = _kept(len(scores), coverage)
    return float(np.partition(scores, place - 1)[place - 1]) if place <= len(scores) else math.inf


def _standings(probabilities: Floats) -> tuple[Floats, Ints]:
    """(N, K) each: the probability of all likelier classes, and their number."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1)
    above, rank = np.empty_like(ordered), np.empty_like(order)
    np.put_along_axis(above, order, np.cumsum(ordered, axis=1) - ordered, axis=1)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(order.shape[1]), order.shape), axis=1)
    return above, rank
