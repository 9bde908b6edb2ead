"""`VerdictScores`: whether verdicts keep their promises, on images unseen by the model and its calibration.

Shapes: N images, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from fieldmark.evaluation.backoff import NONE, area_gain, area_under_risk_coverage, risk_coverage
from fieldmark.evaluation.blocks import blocks
from fieldmark.evaluation.conformal import coverage_interval, have_their_own, set_the_shared
from fieldmark.evaluation.metrics import Score, share
from fieldmark.evaluation.scaling import Bin, calibrated_reference, calibration_error, nll, reliability
from fieldmark.evaluation.thresholds import Thresholds
from fieldmark.evaluation.unknown import ACCEPTED

__all__ = ["VerdictScores", "coverage_bands", "score_verdicts"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_POINTS = 101


@dataclass(frozen=True)
class VerdictScores:
    """What was promised, and what was measured."""

    source: str
    """Where the calibration images come from."""
    num_calibrated: int
    """The number of independent calibration images."""
    nll: tuple[float, float]
    """The negative log-likelihood before and after calibration."""
    calibration_error: tuple[float, float]
    """The calibration error before and after calibration, corrected for bias."""
    if_calibrated: tuple[float, float]
    """The error of a perfectly calibrated model: mean and 95th percentile."""
    reliability: list[Bin]
    coverage: float
    """The requested coverage of the sets."""
    covered: float | None
    """The measured coverage, or None if the data does not suffice for the requested one."""
    coverage_interval: tuple[float, float] | None
    """The interval in which it should lie with 95 % probability, for images like the calibration images."""
    set_size: float | None
    promised: float | None
    """The promised accuracy of given answers, or None if nothing can be promised."""
    promises: dict[str, float | None]
    """For each accuracy that may be promised, such as "0.95", the share of the calibration images that get a name at
    it; None where the accuracy cannot be promised."""
    right: Score | None
    """The measured accuracy of the answers given, or None if no answer was given."""
    shares: dict[str, float]
    """The shares of images answered at each level, too uncertain for any ("unsure"), and unfamiliar ("unknown")."""
    area: tuple[float, float]
    """The area under the risk–coverage curve of class answers: in the calibration's order, and by maximum softmax."""
    area_gain: tuple[float, float, float]
    """How much larger the second area is, with its 95 % interval."""
    risk: list[float]
    """The share of wrong answers among the most confident 0, 1, …, 100 % of class answers (at least one image)."""

    def as_dict(self) -> dict[str, Any]:
        """The values as scores.json has them."""
        values = dict(vars(self))
        values["reliability"] = [vars(point) for point in self.reliability]
        values["right"] = None if self.right is None else self.right.as_dict()
        return values


def score_verdicts(
    thresholds: Thresholds,
    logits: NDArray[np.floating],
    near: NDArray[np.float64],
    labels: NDArray[np.int64],
    units: NDArray[np.int64] | None = None,
    learnt: NDArray[np.bool_] | None = None,
) -> VerdictScores:
    """Check the thresholds on logits (N, K), nearness (N,) and labels (N,) of images that they were not fitted to.

    Intervals are over units (N,); without them, each image is its own unit. The likelihood is that of images whose
    class was `learnt` (N,): one that cannot be has none.
    """
    calibration, rows = thresholds.calibration, np.arange(len(labels))
    units, known = rows if units is None else units, np.ones(len(labels), np.bool_) if learnt is None else learnt
    some = [_looked_at(thresholds, logits[block], near[block], labels[block]) for block in blocks(*logits.shape)]
    seen = _Seen(*(np.concatenate(values) for values in zip(*some, strict=True)))
    sure, softmax_sure, hit, softmax_hit = seen.sure, seen.softmax_sure, seen.hit, seen.softmax_hit
    answers, confidences, familiar = seen.answers, seen.confidences, seen.familiar
    level = thresholds.levels(confidences, familiar)
    given = level != NONE
    shares = {one.name: float((level == k).mean()) for k, one in enumerate(thresholds.taxonomy.levels)}
    surest, right_level = confidences[:, 0], thresholds.taxonomy.right(answers, labels)[rows[given], level[given]]
    risk = risk_coverage(surest, hit)
    return VerdictScores(
        source=calibration.source,
        num_calibrated=len(calibration.right),
        nll=(_mean(seen.nll_before[known]), _mean(seen.nll_after[known])),
        calibration_error=(calibration_error(softmax_sure, softmax_hit), calibration_error(sure, hit)),
        if_calibrated=calibrated_reference(sure),
        reliability=reliability(sure, hit),
        coverage=thresholds.coverage,
        covered=float(seen.covered.mean()) if thresholds.gives_sets else None,
        coverage_interval=_interval(thresholds, labels, units) if thresholds.gives_sets else None,
        set_size=float(seen.set_size.mean()) if thresholds.gives_sets else None,
        promised=thresholds.promised,
        promises=thresholds.calibration.promises(),
        right=share(right_level, units[given]) if given.any() else None,
        shares=shares | {"unsure": float((~given & familiar).mean()), "unknown": float((~familiar).mean())},
        area=(area_under_risk_coverage(surest, hit), area_under_risk_coverage(softmax_sure, softmax_hit)),
        area_gain=area_gain(surest, hit, softmax_sure, softmax_hit, units),
        risk=[float(risk[max(0, round(at) - 1)]) for at in np.linspace(0, len(risk), _POINTS)],
    )


class _Seen(NamedTuple):
    """All that scores need to know of each image, each (N,); of its names at each level, (N, L)."""

    sure: Floats
    softmax_sure: Floats
    hit: NDArray[np.bool_]
    softmax_hit: NDArray[np.bool_]
    nll_before: Floats
    nll_after: Floats
    familiar: NDArray[np.bool_]
    covered: NDArray[np.bool_]
    set_size: Ints
    answers: Ints
    confidences: Floats


def _looked_at(thresholds: Thresholds, logits: NDArray[np.floating], near: Floats, labels: Ints) -> _Seen:
    calibration = thresholds.calibration
    before, after = log_softmax(logits.astype(np.float64), axis=1), calibration.scaling(logits)
    probabilities = np.exp(after)
    answers, confidences = calibration.order(thresholds.taxonomy, after)
    inside = thresholds.sets(probabilities)
    return _Seen(
        sure=probabilities.max(axis=1),
        softmax_sure=np.exp(before.max(axis=1)),
        hit=probabilities.argmax(axis=1) == labels,
        softmax_hit=before.argmax(axis=1) == labels,
        nll_before=nll(before, labels),
        nll_after=nll(after, labels),
        familiar=thresholds.shares_below(probabilities, near) > 1 - ACCEPTED,
        covered=inside[np.arange(len(labels)), labels],
        set_size=inside.sum(axis=1),
        answers=answers,
        confidences=confidences,
    )


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan


def coverage_bands(
    thresholds: Thresholds, labels: NDArray[np.int64], units: NDArray[np.int64]
) -> list[tuple[float, float] | None]:
    """For each class, the interval in which its coverage lies if it is covered like the images that its limit rests on;
    None for a class without labels (N,). Images of one unit (N,) count once."""
    known, tested, _ = _numbers(thresholds, labels, units)
    pairs = list(zip(known.tolist(), tested.tolist(), strict=True))
    # many classes have as few images
    bands = {(n, m): coverage_interval([n], [m], thresholds.coverage) for n, m in set(pairs) if m}
    return [bands.get(pair) for pair in pairs]


def _interval(thresholds: Thresholds, labels: NDArray[np.int64], units: NDArray[np.int64]) -> tuple[float, float]:
    """Of the coverage, over the thresholds of single classes and that of all others, as if none shared an image."""
    known, tested, own = _numbers(thresholds, labels, units)
    return coverage_interval(
        [*known[own].tolist(), int(known[~own].max(initial=0))],
        [*tested[own].tolist(), int(tested[~own].sum())],
        thresholds.coverage,
    )


def _numbers(
    thresholds: Thresholds, labels: NDArray[np.int64], units: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """(K,) each: the number of calibration images that the class's limit rests on, that of the units (N,) with this
    label (N,), and whether the class has its own limit."""
    num_classes = len(thresholds.limits)
    counts = np.bincount(thresholds.calibration.labels, minlength=num_classes)
    tested = np.bincount(np.unique(np.stack([labels, units]), axis=1)[0], minlength=num_classes)
    own, shared = (which(counts, thresholds.coverage) for which in (have_their_own, set_the_shared))
    return np.where(own, counts, counts[shared].sum()), tested, own
