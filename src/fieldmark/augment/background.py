"""The object and what is behind it, taken apart and put together.

Xiao et al., "Noise or signal: the role of image backgrounds in object recognition" (2021). Deviation: they fill the
hole that an object leaves with tiles of the background; here it is filled smoothly, by pull and push (Gortler et al.,
"The Lumigraph", 1996), so that no edge of a tile is taken for a thing.

Shapes: pixels (H, W, 3) uint8, object (H, W) bool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from fieldmark.core.seeds import Stream, generator
from fieldmark.data.catalog import Catalog
from fieldmark.data.loader import Marked
from fieldmark.data.objects import object_in

__all__ = ["BackgroundChange", "alone", "exchanged", "scenery"]

Pixels = NDArray[np.uint8]
Bools = NDArray[np.bool_]

_GREY = 128


@final
@dataclass(frozen=True, eq=False)
class BackgroundChange:
    """In training: an image before the background of one drawn from all, whatever its class; rarely its own."""

    probability: float
    catalog: Catalog
    donors: NDArray[np.int64]
    """Rows that are learnt from and whose object is known."""

    def __call__(self, picture: Marked, row: int, seed: int, look: Callable[[int], Marked]) -> Marked:
        """`picture` of `row`, changed; `look` gives the picture of another row. Unchanged where no object is known."""
        random = generator(Stream.BACKGROUND, seed)
        if random.random() >= self.probability:
            return picture
        shown = object_in(self.catalog, row, picture.pixels, picture.box)
        if shown is None:
            return picture
        donor = int(random.choice(self.donors))
        other = look(donor)
        hidden = object_in(self.catalog, donor, other.pixels, other.box)
        assert hidden is not None
        return picture._replace(pixels=exchanged(picture.pixels, shown, scenery(other.pixels, hidden)))


def scenery(pixels: Pixels, shown: Bools) -> Pixels:
    """The background alone: where the object was, the colours around it run into each other."""
    seen = torch.from_numpy(~shown)[None, None].float()
    levels = [(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() * seen, seen)]
    while (levels[-1][1] == 0).any() and max(levels[-1][1].shape[-2:]) > 1:
        colour, weight = levels[-1]
        levels.append((F.avg_pool2d(colour, 2, ceil_mode=True), F.avg_pool2d(weight, 2, ceil_mode=True)))
    filled = torch.full_like(levels[-1][0], _GREY)  # of what is all object nothing is known
    for colour, weight in reversed(levels):
        filled = F.interpolate(filled, size=weight.shape[-2:], mode="bilinear", align_corners=False)
        filled = torch.where(weight > 0, colour / weight.clamp_min(1e-6), filled)
    return filled[0].permute(1, 2, 0).round().byte().numpy()


def alone(pixels: Pixels, shown: Bools) -> Pixels:
    """The object before a plain grey."""
    return np.where(shown[..., None], pixels, np.uint8(_GREY))


def exchanged(pixels: Pixels, shown: Bools, behind: Pixels) -> Pixels:
    """The object, where it is, before another picture's `scenery`, which is squeezed to this one's shape."""
    height, width = shown.shape
    other = np.asarray(Image.fromarray(behind).resize((width, height), Image.Resampling.BILINEAR))
    return np.where(shown[..., None], pixels, other)
