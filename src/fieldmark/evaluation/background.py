"""How much a model leans on the background.

Xiao et al., "Noise or signal: the role of image backgrounds in object recognition" (2021). The one number is their
background gap: the accuracy before another background of the same class minus that before one of another class. Both
kinds of picture are pasted alike, so what pasting itself costs cancels out. Backgrounds come from training images:
what a model leans on is what it has seen there.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmark.evaluation.metrics import Score, paired, share

__all__ = ["VIEWS", "Reliance", "reliance"]

VIEWS: Final = {
    "whole": "as it is",
    "alone": "without its background",
    "scenery": "background only",
    "same": "before another background of its class",
    "other": "before a background of another class",
}
"""How each image is shown, and what that is called."""

_BAD = 0.05
"""A gap from which on something should be done."""


@dataclass(frozen=True)
class Reliance:
    """Accuracy in each view, and the gap."""

    accuracy: Mapping[str, Score]
    gap: Score
    """Share of the images that are right only while the background fits their class."""
    chance: float
    """Accuracy of always giving the commonest class."""
    num_images: int
    known_by: str
    """"masks", "boxes", …: how the object was found."""

    @property
    def is_bad(self) -> bool:
        """Whether it is worth a remedy: a gap that is large and no accident."""
        return self.gap.low > 0 and self.gap.value >= _BAD

    @property
    def advice(self) -> str:
        """In words, with the remedy where there is need of one."""
        points = f"{100 * self.gap.value:.1f} points ({100 * self.gap.low:.1f}–{100 * self.gap.high:.1f})"
        if not self.is_bad:
            return f"A background of another class costs {points} more than another one of its own class"
        return (
            f"It leans on the background: one of another class costs {points} more than another one of its own class. "
            "The remedy is to exchange backgrounds in training: --set augment.background=0.5"
        )

    def as_dict(self) -> dict[str, Any]:
        """As written to background.json."""
        return {
            "gap": self.gap.as_dict(),
            "accuracy": {name: score.as_dict() for name, score in self.accuracy.items()},
            "chance": self.chance,
            "num_images": self.num_images,
            "known_by": self.known_by,
            "advice": self.advice,
        }


def reliance(
    right: Mapping[str, NDArray[np.bool_]],
    labels: NDArray[np.int64],
    units: NDArray[np.int64] | None = None,
    *,
    known_by: str,
    seed: int = 0,
) -> Reliance:
    """From what was right (N,) in each of VIEWS; intervals are over units (N,), each image its own unless given."""
    return Reliance(
        accuracy={name: share(right[name], units) for name in VIEWS},
        gap=paired(right["same"].astype(float) - right["other"], units, seed=seed),
        chance=float(np.bincount(labels).max() / len(labels)),
        num_images=len(labels),
        known_by=known_by,
    )
