"""How far graded answers are from the true grades.

Quadratic weighted kappa: Cohen, "Weighted kappa: nominal scale agreement with provision for scaled disagreement or
partial credit" (1968). Shapes: N images, K classes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fieldmark.evaluation.metrics import Score, bootstrapped, mean_within, unseen_share

__all__ = ["grade_scores", "quadratic_kappa"]

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


def quadratic_kappa(given: Ints | Floats, true: Ints | Floats, times: Floats | None = None) -> float:
    """1 − Σ (given − true)² / the sum expected if answers and grades (N,) were unrelated.

    `times` (N,) says how often each image counts. 1 is perfect, 0 is chance; NaN if all answers and grades are equal.
    """
    weights = np.ones(len(true)) if times is None else times
    total = weights.sum()
    mean_given, mean_true = weights @ given / total, weights @ true / total
    found = weights @ (given - true) ** 2 / total
    spread = weights @ (given - mean_given) ** 2 / total + weights @ (true - mean_true) ** 2 / total
    expected = spread + (mean_given - mean_true) ** 2
    return float(1 - found / expected) if expected > 0 else float("nan")


def grade_scores(grades: Ints, answers: Ints, labels: Ints, units: Ints | None = None) -> dict[str, Score]:
    """`quadratic_kappa` and `grade_error`, the mean distance in grades: grades (K,), answers, labels and units (N,).

    There is no kappa if all answers and labels have one grade. If all are right, no resample differs; the interval then
    leaves room for the share of mistakes that could be unseen (Wilson 1927), each as far off as grades allow.
    """
    given, true = grades[answers].astype(np.float64), grades[labels].astype(np.float64)
    off, furthest = np.abs(given - true), float(np.ptp(grades))
    units = np.arange(len(off)) if units is None else units
    found = {"grade_error": mean_within(off, 0.0, furthest, units)}
    if not np.isfinite(quadratic_kappa(given, true)):
        return found
    kappa = bootstrapped(lambda times: quadratic_kappa(given, true, times), units)
    if not off.any():
        low = 1 - unseen_share(units) * furthest**2 / (2 * true.var())  # all right: given and true vary alike
        kappa = replace(kappa, low=max(low, -1.0))
    return {"quadratic_kappa": kappa, **found}
