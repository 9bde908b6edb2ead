"""Where in a picture the object is: its mask, else its box.

Shapes: N samples, H × W decoded pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fieldmark.core.errors import DataError
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import decode

__all__ = ["knows_object", "no_object", "object_in"]

Bools = NDArray[np.bool_]


def knows_object(catalog: Catalog) -> Bools:
    """(N,) of which samples it is known where the object is."""
    known = np.array([bool(mask) for mask in catalog.masks] or [False] * len(catalog), bool)
    return known if catalog.boxes is None else known | ~np.isnan(catalog.boxes).any(axis=1)


def object_in(catalog: Catalog, row: int, pixels: NDArray[np.uint8], box: NDArray[np.float32] | None) -> Bools | None:
    """(H, W) which of the pixels (H, W, 3) of sample `row` are the object; None where nothing is known.

    `box` (4,) x, y, width, height is the sample's own, in these pixels. Raises ImageError for a mask that cannot be
    read and DataError for one of another shape than its picture.
    """
    height, width = pixels.shape[:2]
    if catalog.masks and catalog.masks[row]:
        file = catalog.root / catalog.masks[row]
        mask = (decode(file).pixels > 0).any(axis=2)
        if abs(mask.shape[1] / mask.shape[0] * height / width - 1) > 0.05:
            raise DataError(
                f"{file} has {mask.shape[1]} × {mask.shape[0]} pixels, but its picture has {width} × {height}",
                "Give a mask of the same shape as its picture.",
            )
        return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    if box is None or np.isnan(box).any():
        return None
    left, top, across, down = box
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    return ((y >= top) & (y < top + down))[:, None] & ((x >= left) & (x < left + across))[None, :]


def no_object(catalog: Catalog) -> DataError:
    """The error where nothing says which pixels are the object."""
    return DataError(
        f"{catalog.name} does not say where the object is, so Fieldmark cannot tell it from the background",
        "Add boxes (x, y, width, height) or masks (mask) to the table as columns. A model of the method "
        "part_discovery can be evaluated without them: it finds the object itself.",
    )
