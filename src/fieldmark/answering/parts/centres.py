"""Where a method locates its parts, in pixels of the pictures.

Shapes: N images, M parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.recipe import Images
from fieldmark.data.catalog import Catalog
from fieldmark.data.square import evaluation_window

__all__ = ["frames_to_pixels", "object_sizes"]


def frames_to_pixels(
    centres: NDArray[np.floating], frames: NDArray[np.floating], images: Images
) -> NDArray[np.float32]:
    """Centres (N, M, 3) in shares of the view → in pixels of the pictures, of which frames (N, 2) are the sizes."""
    windows = [evaluation_window(width, height, crop=images.crop, whole=images.whole) for width, height in frames]
    low, high = np.split(np.array(windows).reshape(-1, 1, 4), 2, axis=-1)
    return np.concatenate([low + centres[..., :2] * (high - low), centres[..., 2:]], axis=-1).astype(np.float32)


def object_sizes(catalog: Catalog, rows: NDArray[np.int64], frames: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N,) the root of the area of each row's box, or of its picture (frames (N, 2)) where it has none."""
    sizes: NDArray[np.float64] = np.sqrt(frames.astype(np.float64).prod(axis=1))
    if catalog.boxes is None:
        return sizes
    boxes = catalog.boxes[rows, 2:].astype(np.float64).prod(axis=1)
    return np.where(boxes > 0, np.sqrt(boxes, where=boxes > 0, out=np.zeros_like(boxes)), sizes)
