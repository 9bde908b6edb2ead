"""The square that the network sees when it answers: cut from decoded pixels and resized once, antialiased.

It needs NumPy and Pillow only, so that whoever answers without torch sees the same pixels.

Shapes: H × W picture, S side of the square.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fieldmark.core.errors import RecipeError, nearest

__all__ = ["INTERPOLATIONS", "channels_first", "evaluation_view", "evaluation_window", "resized"]

INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_REACH = 3
"""Pixels on either side that the widest of them, Lanczos, looks at where nothing shrinks."""


def evaluation_view(
    pixels: NDArray[np.uint8], *, size: int, crop: float = 0.875, whole: bool = False, interpolation: str = "bicubic"
) -> NDArray[np.uint8]:
    """The view that is answered on: pixels (H, W, 3) → (3, size, size).

    The central square whose side is `crop` × the short side; with `whole`, the entire picture squeezed to a square.
    RecipeError for an unknown interpolation.
    """
    height, width = pixels.shape[:2]
    window = evaluation_window(width, height, crop=crop, whole=whole)
    return channels_first(resized(pixels, window, size, interpolation))


def evaluation_window(width: int, height: int, *, crop: float, whole: bool) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of what `evaluation_view` sees of a picture of this size."""
    side = crop * min(height, width)
    wide, high = (width, height) if whole else (side, side)
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high


def resized(
    pixels: NDArray[np.uint8], window: tuple[float, float, float, float], size: int, interpolation: str
) -> Image.Image:
    """`window` (left, top, right, bottom) of `pixels` (H, W, 3) as a square picture. RecipeError for an unknown
    interpolation.

    Its width changes first and then its height, whatever the shape of the picture: Pillow by itself has rules for that,
    which differ between versions, and rounds in between.
    """
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    if interpolation not in INTERPOLATIONS:
        raise RecipeError(f"There is no interpolation {interpolation!r}", nearest(interpolation, INTERPOLATIONS))
    left, top, right, bottom = window
    reach = _REACH * max(1.0, (bottom - top) / size) + 1
    first, last = max(0, math.floor(top - reach)), min(len(pixels), math.ceil(bottom + reach))
    rows, method = last - first, INTERPOLATIONS[interpolation]
    across = Image.fromarray(pixels[first:last]).resize((size, rows), method, box=(left, 0, right, rows))
    return across.resize((size, size), method, box=(0, top - first, size, bottom - first))


def channels_first(picture: Image.Image) -> NDArray[np.uint8]:
    """(3, H, W), in memory of its own."""
    return np.asarray(picture).transpose(2, 0, 1).copy()
