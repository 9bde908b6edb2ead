"""Which of two answers is more certain: by calibrated probability, or by that raised to the power of the temperature.

The second is the plain softmax where answers were scaled by a temperature. Where they were by a vector, it is as sharp
on average, and what sets classes apart stays. A temperature changes the order of images, not only the size of their
numbers. Which order separates right answers from wrong ones better depends on the training, label smoothing above all
(Xia et al., "Towards understanding why label smoothing degrades selective classification and how to fix it", 2024). So
held-out images decide.

Shapes: N images, K classes, L levels from the class upwards, Q quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.backoff import area_gain
from fieldmark.evaluation.blocks import blocks, by_blocks

__all__ = ["Order", "choose_order"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_QUANTILES = 1001
_REPLICATES = 300


@dataclass(frozen=True, eq=False)
class Order:
    """How certain an answer is, in one order or the other; both are on the scale of calibrated probabilities."""

    sharpness: float = 1.0
    """The power to which calibrated probabilities are raised: 1, or the temperature."""
    sharpened: Floats = field(default_factory=lambda: np.zeros(0))
    """(Q,) quantiles of the class's probability after raising, on held-out images."""
    calibrated: Floats = field(default_factory=lambda: np.zeros(0))
    """(Q,) quantiles of its calibrated probability. They replace the former, so that thresholds keep their meaning."""

    def __call__(self, taxonomy: Taxonomy, log_probabilities: Floats) -> tuple[Ints, Floats]:
        """The most likely name of each level and its certainty, (N, L), for calibrated log-probabilities (N, K)."""
        some = [self._answered(taxonomy, log_probabilities[rows]) for rows in blocks(*log_probabilities.shape)]
        if len(some) == 1:
            return some[0]
        if not some:
            return self._answered(taxonomy, log_probabilities)
        answers, certainties = zip(*some, strict=True)
        return np.concatenate(answers), np.concatenate(certainties)

    def _answered(self, taxonomy: Taxonomy, log_probabilities: Floats) -> tuple[Ints, Floats]:
        answers, probabilities = taxonomy.best(np.exp(log_probabilities))
        if self.sharpness == 1:
            return answers, probabilities
        raised = taxonomy.shares(softmax(self.sharpness * log_probabilities, axis=1), answers)
        return answers, np.interp(raised, self.sharpened, self.calibrated)


def choose_order(log_probabilities: Floats, labels: Ints, temperature: float) -> Order:
    """Order by probability, unless that raised to the temperature clearly has the smaller area under the risk–coverage
    curve.

    Calibrated log-probabilities are (N, K). "Clearly" means that the 95 % interval of the paired gain excludes zero.
    """
    right = log_probabilities.argmax(axis=1) == labels
    by_probability = np.exp(log_probabilities.max(axis=1))
    raised = by_blocks(lambda some: softmax(temperature * some, axis=1).max(axis=1), log_probabilities)
    if area_gain(raised, right, by_probability, right, replicates=_REPLICATES)[1] <= 0:
        return Order()
    at = np.linspace(0, 1, _QUANTILES)
    sharpened, first = np.unique(np.quantile(raised, at), return_index=True)
    calibrated = np.quantile(by_probability, at)[first]
    # the ends are tied to each other, so that no order is lost beyond what was seen
    return Order(temperature, np.concatenate([[0.0], sharpened, [1.0]]), np.concatenate([[0.0], calibrated, [1.0]]))
