"""How often an attribute is predicted correctly. Shapes: N images, V values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fieldmark.evaluation.metrics import Score, bootstrapped, wilson_interval

__all__ = ["AttributeScore", "attribute_score"]


@dataclass(frozen=True)
class AttributeScore:
    """The score of one attribute."""

    balanced_accuracy: Score
    num_images: int
    """The number of images whose value is known."""

    def as_dict(self) -> dict[str, float]:
        """The values as scores.json has them."""
        return self.balanced_accuracy.as_dict() | {"num_images": self.num_images}


def attribute_score(
    logits: NDArray[np.floating], codes: NDArray[np.integer], units: NDArray[np.integer] | None = None
) -> AttributeScore | None:
    """Balanced accuracy over the images whose value is known: logits (N, V), codes (N,) with −1 for an unknown value.

    This is the mean, over the values that occur, of the share of their images that are right, so a value that nearly
    all images have counts no more than a rare one. The interval is never narrower than Wilson's for as many images as
    there are units (N,). The result is None if no image's value is known.
    """
    known = codes >= 0
    if not known.any():
        return None
    truth, right = codes[known], logits[known].argmax(axis=1) == codes[known]

    def measure(times: NDArray[np.float64]) -> float:
        total = np.bincount(truth, times)
        present = total > 0
        return float((np.bincount(truth, times * right)[present] / total[present]).mean())

    together = np.arange(len(truth)) if units is None else units[known]
    found = bootstrapped(measure, together, percent=True)
    low, high = wilson_interval(np.array(found.value), len(np.unique(together)))
    score = replace(found, low=min(found.low, float(low)), high=max(found.high, float(high)))
    return AttributeScore(score, len(truth))
