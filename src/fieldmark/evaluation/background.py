"""How much a model relies on the background.

Xiao et al., "Noise or signal: the role of image backgrounds in object recognition" (2021). The main figure is their
background gap: the accuracy on other backgrounds of the same class minus the accuracy on backgrounds of other classes.
Both kinds of picture are pasted in the same way, so the cost of pasting itself cancels out. Backgrounds come from
training images, because a model relies on the backgrounds that it saw there.

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
    "whole": "unchanged",
    "alone": "without its background",
    "scenery": "background only",
    "same": "on another background of the same class",
    "other": "on a background of another class",
}
"""The ways in which each image is shown, with a title for each."""

_BAD = 0.05
"""A gap of at least this size calls for a remedy."""


@dataclass(frozen=True)
class Reliance:
    """The accuracy in each view, and the background gap."""

    accuracy: Mapping[str, Score]
    gap: Score
    """The share of the images that are right only as long as the background fits their class."""
    chance: float
    """The accuracy of always answering with the most common class."""
    num_images: int
    known_by: str
    """"masks", "boxes", …: how the object was located."""

    @property
    def is_bad(self) -> bool:
        """Whether the gap is large and unlikely to be chance, so that a remedy is worth trying."""
        return self.gap.low > 0 and self.gap.value >= _BAD

    @property
    def advice(self) -> str:
        """The finding in words, with a remedy if one is needed."""
        points = f"{100 * self.gap.value:.1f} points ({100 * self.gap.low:.1f}–{100 * self.gap.high:.1f})"
        if not self.is_bad:
            return f"A background of another class costs {points} more accuracy than another one of the same class"
        return (
            "The model relies on the background: "
            f"one of another class costs {points} more accuracy than another one of the same class. "
            "To counter this, exchange backgrounds during training: --set augment.background=0.5"
        )

    def as_dict(self) -> dict[str, Any]:
        """The values as background.json has them."""
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
    """The reliance of a model that was right or wrong about N images in each of VIEWS.

    Intervals are over units (N,); without them, each image is its own unit.
    """
    return Reliance(
        accuracy={name: share(right[name], units) for name in VIEWS},
        gap=paired(right["same"].astype(float) - right["other"], units, seed=seed),
        chance=float(np.bincount(labels).max() / len(labels)),
        num_images=len(labels),
        known_by=known_by,
    )
