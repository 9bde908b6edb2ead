"""`Batch`: what one optimiser step learns from.

Shapes: B images of S × S pixels, T targets per image (1 plain, 2 mixed), P key points, A attributes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

__all__ = ["Batch"]


@dataclass(frozen=True)
class Batch:
    """What one optimiser step learns from."""

    images: Tensor
    """(B, 3, S, S) normalised."""
    labels: Tensor
    """(B, T) int64."""
    weights: Tensor
    """(B, T); every classification loss is Σₜ weightₜ · loss(labelₜ)."""
    rows: Tensor
    """(B,) rows of the catalogue."""
    boxes: Tensor | None = None
    """(B, 4) x, y, width, height in pixels of `images`; NaN where there is none."""
    keypoints: Tensor | None = None
    """(B, P, 3) x, y, visible, in pixels of `images`."""
    attributes: Tensor | None = None
    """(B, A) int64 the value of each attribute that is learnt, −1 where unknown; of the images' own rows."""

    def piece(self, which: slice) -> Batch:
        """Some of its images, with all that is known of them."""
        whole: dict[str, Any] = {key: value for key, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{key: value[which] for key, value in whole.items()})
