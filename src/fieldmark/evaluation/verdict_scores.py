"""`VerdictScores`: whether verdicts keep their promises, on images that neither the model nor its calibration has seen.

Shapes: N images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from fieldmark.evaluation.backoff import NONE, area_gain, area_under_risk_coverage, risk_coverage
from fieldmark.evaluation.conformal import ENOUGH, coverage_interval
from fieldmark.evaluation.metrics import Score, share
from fieldmark.evaluation.scaling import Bin, calibrated_reference, calibration_error, nll, reliability
from fieldmark.evaluation.thresholds import Thresholds
from fieldmark.evaluation.unknown import ACCEPTED

__all__ = ["VerdictScores", "score_verdicts"]

_POINTS = 101


@dataclass(frozen=True)
class VerdictScores:
    """What was promised and what was found."""

    source: str
    """Where the calibration images come from."""
    num_calibrated: int
    """How many independent ones there were."""
    nll: tuple[float, float]
    """Before and after calibration."""
    calibration_error: tuple[float, float]
    """Before and after, corrected for bias."""
    if_calibrated: tuple[float, float]
    """What a perfectly calibrated model would show: mean and 95th percentile."""
    reliability: list[Bin]
    coverage: float
    """That was asked of the sets,"""
    covered: float | None
    """that was found; none where the data cannot carry it,"""
    coverage_interval: tuple[float, float] | None
    """and between which it should lie with probability 95 %, for images like those of the calibration."""
    set_size: float | None
    accuracy: float
    """That was asked of given answers,"""
    promised: bool
    """whether the data can carry it,"""
    right: Score | None
    """and that was found, among answers given; none where there was none."""
    shares: dict[str, float]
    """Of images answered at each level, not surely enough for any ("unsure"), and not passed as known ("unknown")."""
    area: tuple[float, float]
    """Under the risk–coverage curve of class answers: in the calibration's order, and by maximum softmax."""
    area_gain: tuple[float, float, float]
    """By how much the second is larger, with its 95 % interval."""
    risk: list[float]
    """Share of wrong class answers among the surest 0, 1, …, 100 % (at least one image)."""

    def as_dict(self) -> dict[str, Any]:
        """As written to scores.json."""
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
) -> VerdictScores:
    """Hold the thresholds against logits (N, K), nearness (N,) and labels (N,) of images that had no part in them;
    intervals are over units (N,), each image its own unless given."""
    calibration, rows = thresholds.calibration, np.arange(len(labels))
    before, after = log_softmax(logits.astype(np.float64), axis=1), calibration.scaling(logits)
    probabilities = np.exp(after)
    sure, softmax_sure = probabilities.max(axis=1), np.exp(before.max(axis=1))
    hit, softmax_hit = probabilities.argmax(axis=1) == labels, before.argmax(axis=1) == labels
    answers, confidences = calibration.order(thresholds.taxonomy, after)
    familiar = thresholds.shares_below(probabilities, near) > 1 - ACCEPTED
    level = thresholds.levels(confidences, familiar)
    given = level != NONE
    inside = thresholds.sets(probabilities)
    shares = {one.name: float((level == k).mean()) for k, one in enumerate(thresholds.taxonomy.levels)}
    surest, right_level = confidences[:, 0], thresholds.taxonomy.right(answers, labels)[rows[given], level[given]]
    risk = risk_coverage(surest, hit)
    return VerdictScores(
        source=calibration.source,
        num_calibrated=len(calibration.right),
        nll=(float(nll(before, labels).mean()), float(nll(after, labels).mean())),
        calibration_error=(calibration_error(softmax_sure, softmax_hit), calibration_error(sure, hit)),
        if_calibrated=calibrated_reference(sure),
        reliability=reliability(sure, hit),
        coverage=thresholds.coverage,
        covered=float(inside[rows, labels].mean()) if thresholds.gives_sets else None,
        coverage_interval=_interval(thresholds, labels) if thresholds.gives_sets else None,
        set_size=float(inside.sum(axis=1).mean()) if thresholds.gives_sets else None,
        accuracy=thresholds.promise.accuracy,
        promised=thresholds.promise.threshold is not None,
        right=share(right_level, rows[given] if units is None else units[given]) if given.any() else None,
        shares=shares | {"unsure": float((~given & familiar).mean()), "unknown": float((~familiar).mean())},
        area=(area_under_risk_coverage(surest, hit), area_under_risk_coverage(softmax_sure, softmax_hit)),
        area_gain=area_gain(surest, hit, softmax_sure, softmax_hit, units),
        risk=[float(risk[max(0, round(at) - 1)]) for at in np.linspace(0, len(risk), _POINTS)],
    )


def _interval(thresholds: Thresholds, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Of the coverage, over the thresholds of single classes and that of all others."""
    num_classes = len(thresholds.limits)
    known = np.bincount(thresholds.calibration.labels, minlength=num_classes)
    tested = np.bincount(labels, minlength=num_classes)
    own = known >= ENOUGH
    return coverage_interval(
        [*known[own].tolist(), int(known[~own].sum())],
        [*tested[own].tolist(), int(tested[~own].sum())],
        thresholds.coverage,
    )
