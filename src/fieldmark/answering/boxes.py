"""What the network sees of a box: a square around it, cut so that the view shows the box and a little around it.

Shapes: H × W picture, S side of the square that the network sees.
"""

from __future__ import annotations

import math
import threading
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import Shown
from fieldmark.answering.things import Thing
from fieldmark.answering.views import short_side
from fieldmark.core.recipe import Images
from fieldmark.data.decode import Decoded, Kept, measure, orientation
from fieldmark.data.detections import Box

__all__ = ["Boxed", "window"]

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


@final
class Boxed:
    """A picture that is looked at box by box. It is read and decoded for the first, and let go of after the last."""

    def __init__(self, thing: Thing, boxes: int = 1) -> None:
        """`boxes` is how many there are to see."""
        self._thing, self._left = thing, boxes
        self._kept = Kept() if boxes > 1 else None
        self._last: tuple[int, Decoded] | None = None
        self._lock = threading.Lock()  # its boxes may be in two batches, and so be seen by two threads

    def see(self, predictor: Predictor, box: Box) -> Shown:
        """What the network sees of a box. Raises ImageError.

        As with whole pictures, what is cut out is reduced first to 1.5 times the view, and never enlarged.
        """
        with self._lock:
            try:
                return self._see(predictor, box)
            finally:
                self._left -= 1
                if self._left <= 0:  # what found no memory is seen again
                    self._kept = self._last = None

    def _see(self, predictor: Predictor, box: Box) -> Shown:
        images = predictor.bundle.images
        crop = 1.0 if images.whole else images.crop
        needed = None
        if (size := self._upright_size) is not None:
            x, y, right, bottom = window(*size, box, crop=crop)
            shrinking = short_side(images) / min(right - x, bottom - y)
            needed = max(1, math.ceil(min(size) * shrinking)) if shrinking < 1 else None
        decoded = self._decoded(needed or max(size or (1 << 30, 0)), images)
        pixels: NDArray[np.uint8] = decoded.pixels
        x, y, right, bottom = window(pixels.shape[1], pixels.shape[0], box, crop=crop)
        return Shown(predictor.view(np.ascontiguousarray(pixels[y:bottom, x:right])), decoded.size)

    def _decoded(self, side: int, images: Images) -> Decoded:
        """The picture, reduced to this short side. All small boxes need it as it is."""
        if self._last is None or self._last[0] != side:
            self._last = None  # two would be in memory
            self._last = side, self._thing.decode(short_side=side, grey_bits=images.grey_depth, kept=self._kept)
        return self._last[1]

    @cached_property
    def _upright_size(self) -> tuple[int, int] | None:
        """Width and height; None where they cannot be known before decoding."""
        source = self._thing.source
        if not isinstance(source, Path) or (size := measure(source)) is None:
            return None
        return size[::-1] if orientation(source) >= 5 else size
