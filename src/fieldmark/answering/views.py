"""From decoded pixels to the square that the network sees, as the recipe defines it for training and for answering."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.recipe import Images
from fieldmark.data.square import evaluation_view

__all__ = ["evaluation_square", "short_side"]


def short_side(images: Images) -> int:
    """The side to which pictures are reduced first, cached or not, in training and in service."""
    return round(1.5 * images.size)


def evaluation_square(images: Images, interpolation: str) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Decoded pixels (H, W, 3) → uint8 (3, S, S), as every answer sees them."""
    return partial(evaluation_view, size=images.size, crop=images.crop, whole=images.whole, interpolation=interpolation)
