"""What the loader calls for each training image: a recipe's choices, bound once.

Shapes: decoded pixels (H, W, 3), box (4,), key points (P, 3), view (3, S, S).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fieldmark.augment.image import ImageAugment, View, evaluation_annotations, training_view
from fieldmark.data.square import evaluation_view

__all__ = ["PlainViews", "RandomViews"]

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32] | None


@dataclass(frozen=True)
class RandomViews:
    """A view drawn from the seed."""

    size: int
    options: ImageAugment
    mirror: NDArray[np.int64] | None = None
    """(P,) which key point becomes which in a mirror; see `mirror_permutation`."""
    interpolation: str = "bicubic"

    def __call__(self, pixels: Pixels, seed: int, box: Points, keypoints: Points) -> View:
        """See `training_view`."""
        return training_view(
            pixels,
            size=self.size,
            options=self.options,
            seed=seed,
            box=box,
            keypoints=keypoints,
            mirror=self.mirror,
            interpolation=self.interpolation,
        )


@dataclass(frozen=True)
class PlainViews:
    """The evaluation view, whatever the seed."""

    size: int
    crop: float
    whole: bool
    interpolation: str = "bicubic"

    def __call__(self, pixels: Pixels, seed: int, box: Points, keypoints: Points) -> View:
        """See `evaluation_view`."""
        image = evaluation_view(
            pixels, size=self.size, crop=self.crop, whole=self.whole, interpolation=self.interpolation
        )
        moved = evaluation_annotations(pixels, box, keypoints, size=self.size, crop=self.crop, whole=self.whole)
        return View(torch.from_numpy(image), *moved)
