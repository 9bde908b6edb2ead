"""What the network sees of a box: a square around it, cut so that the view shows the box and a little around it.

Shapes: H × W picture, S side of the square that the network sees.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import Shown
from fieldmark.answering.things import Thing
from fieldmark.answering.views import short_side
from fieldmark.data.decode import measure, orientation
from fieldmark.data.detections import Box

__all__ = ["see_box", "window"]

_AROUND = 1.2
"""The side of what is seen, in longer sides of the box."""


def window(width: int, height: int, box: Box, *, crop: float) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, in pixels of a picture of this size, of what is cut out for a box.

    It is a square whose central part, `crop` of its side, is the box with a margin. It is moved rather than cut where
    it would go over an edge, and cut where it is larger than the picture.
    """
    left, top, wide, high = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    side = max(1.0, max(wide, high) * _AROUND / crop)
    across, down = min(side, width), min(side, height)
    x = min(max(left + wide / 2 - across / 2, 0), width - across)
    y = min(max(top + high / 2 - down / 2, 0), height - down)
    # at least a pixel, whatever the rounding and the box are
    x, y = min(math.floor(x), width - 1), min(math.floor(y), height - 1)
    return x, y, min(width, max(x + 1, round(x + across))), min(height, max(y + 1, round(y + down)))


def see_box(predictor: Predictor, thing: Thing, box: Box) -> Shown:
    """What the network sees of a box in a picture. Raises ImageError.

    As with whole pictures, what is cut out is reduced first to 1.5 times the view, and never enlarged.
    """
    images = predictor.bundle.images
    crop = 1.0 if images.whole else images.crop
    needed = None
    if (size := _upright_size(thing)) is not None:
        x, y, right, bottom = window(*size, box, crop=crop)
        shrinking = short_side(images) / min(right - x, bottom - y)
        needed = max(1, math.ceil(min(size) * shrinking)) if shrinking < 1 else None
    decoded = thing.decode(short_side=needed or max(size or (1 << 30, 0)), grey_bits=images.grey_depth)
    pixels: NDArray[np.uint8] = decoded.pixels
    x, y, right, bottom = window(pixels.shape[1], pixels.shape[0], box, crop=crop)
    return Shown(predictor.view(np.ascontiguousarray(pixels[y:bottom, x:right])), decoded.size)


def _upright_size(thing: Thing) -> tuple[int, int] | None:
    """Width and height; None where they cannot be known before decoding."""
    if not isinstance(thing.source, Path) or (size := measure(thing.source)) is None:
        return None
    return size[::-1] if orientation(thing.source) >= 5 else size
