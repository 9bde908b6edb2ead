"""Duplicates, as they come into collections: the same picture again, as it was or changed on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fieldmark.fieldguide.guide import Guide
from fieldmark.fieldguide.render import Drawing
from fieldmark.fieldguide.shapes import box_of
from fieldmark.fieldguide.truth import Sighting

__all__ = ["CHANGES", "Copy", "changed", "copy_of"]

CHANGES = ("exact", "re-encoded", "resized", "cropped", "mirrored")
_SPLITS, _SHARES = ("train", "val", "test"), (0.7, 0.15, 0.15)
_MOST_CROPPED = 0.1


@dataclass(frozen=True)
class Copy:
    """How a picture comes a second time."""

    change: str
    """One of `CHANGES`."""
    split: str
    """Any split, whatever that of the original."""
    quality: int
    """Of the JPEG file, where it is written anew."""
    scale: float
    crop: tuple[float, float, float, float]
    """What is cut off left, top, right and bottom: shares of the side."""


def copy_of(guide: Guide, sighting: Sighting) -> Copy | None:
    """The copy of this picture, if the guide has one: a pure function of the seed and the picture."""
    rng = np.random.default_rng([11, guide.options.seed, sighting.species, sighting.index])
    if rng.random() >= guide.options.duplicates:
        return None
    # the mirror image of a mirror-image species is another species
    changes = CHANGES[:-1] if guide.options.kind == "mirror" else CHANGES
    across, down = rng.dirichlet([1, 1]), rng.dirichlet([1, 1])
    cut = rng.uniform(0.3, 1, 2) * _MOST_CROPPED
    return Copy(
        change=changes[int(rng.integers(len(changes)))],
        split=_SPLITS[int(rng.choice(3, p=_SHARES))],
        quality=int(rng.integers(55, 86)),
        scale=float(rng.uniform(0.5, 0.9)),
        crop=(float(across[0] * cut[0]), float(down[0] * cut[1]), float(across[1] * cut[0]), float(down[1] * cut[1])),
    )


def changed(drawing: Drawing, copy: Copy) -> Drawing:
    """The picture as it comes again, with its truth."""
    height, width = drawing.numbers.shape
    left, top, right, bottom = 0, 0, width, height
    if copy.change == "cropped":
        cut = [round(share * side) for share, side in zip(copy.crop, (width, height) * 2, strict=True)]
        left, top, right, bottom = cut[0], cut[1], width - cut[2], height - cut[3]
    pixels, numbers = drawing.pixels[top:bottom, left:right], drawing.numbers[top:bottom, left:right]
    keypoints = drawing.keypoints - np.array([left, top, 0], dtype=np.float32)
    if copy.change == "resized":
        size = (round(width * copy.scale), round(height * copy.scale))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
        numbers = np.asarray(Image.fromarray(numbers).resize(size, Image.Resampling.NEAREST))
        keypoints = keypoints * np.array([size[0] / width, size[1] / height, 1], dtype=np.float32)
    if copy.change == "mirrored":
        pixels, numbers = pixels[:, ::-1], numbers[:, ::-1]
        keypoints = keypoints * np.array([-1, 1, 1], dtype=np.float32) + np.array([width, 0, 0], dtype=np.float32)
    pixels, numbers = np.ascontiguousarray(pixels), np.ascontiguousarray(numbers)
    return replace(
        drawing, pixels=pixels, numbers=numbers, keypoints=_in_picture(keypoints, numbers), box=box_of(numbers)
    )  # fmt: skip


def _in_picture(keypoints: NDArray[np.float32], numbers: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Points that were cut off are no longer visible."""
    inside = ((keypoints[:, :2] >= 0) & (keypoints[:, :2] < numbers.shape[::-1])).all(axis=1)
    return np.column_stack([keypoints[:, :2], keypoints[:, 2] * inside]).astype(np.float32)
