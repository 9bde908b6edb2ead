"""Where a method sees its parts, in pixels of the pictures, and what they are called.

Shapes: N images, M parts, P key points, maps of h × w cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.augment.image import evaluation_window
from fieldmark.bundle import evaluation_square, stacked
from fieldmark.commands.fit import Fit
from fieldmark.data.catalog import Catalog
from fieldmark.evaluation.part_names import match_parts, names_of, numbered
from fieldmark.model.method import Method
from fieldmark.model.part_maps import part_centres
from fieldmark.recipe import Images

__all__ = ["Sight", "frames_to_pixels", "name_parts", "object_sizes", "part_sights"]

_MOST_IMAGES = 1000
"""Enough for a mean distance, and seconds of work."""
_BATCH = 32


class Sight(NamedTuple):
    """What a method sees of one image."""

    centres: NDArray[np.float32]
    """(M, 3) x, y, visible; in shares of the view's side."""
    maps: NDArray[np.float32]
    """(M + 1, h, w) with the background last where the method has one, else (M, h, w)."""


def part_sights(method: Method, views: Iterable[Tensor]) -> Iterator[Sight]:
    """One for each view, uint8 (3, S, S); nothing at all for a method without part maps."""
    device = next(method.parameters()).device
    method.eval()
    with torch.inference_mode():
        for images in stacked(views, _BATCH):
            maps = method(method.backbone.normalization(images.to(device))).parts
            if maps is None:
                return
            centres = part_centres(maps, has_background=method.has_background)
            for one, seen in zip(centres.cpu().numpy(), maps.float().cpu().numpy(), strict=True):
                yield Sight(one, seen)


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


def name_parts(fit: Fit, method: Method, rows: NDArray[np.int64]) -> tuple[str, ...]:
    """The names of the method's parts (M): those of the key points that they lie at in training images, else numbers.

    () for a method without part maps.
    """
    catalog, images = fit.data.catalog, fit.recipe.images
    points = catalog.keypoints
    if points is not None:
        rows = rows[(points[rows, :, 2] > 0).any(axis=1)] if (points[rows, :, 2] > 0).any() else rows
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST_IMAGES if points is not None else 1)).astype(int)]
    square = evaluation_square(images, method.backbone.normalization.interpolation)
    sights = part_sights(method, (square(fit.data.pixels[int(row)].pixels) for row in chosen))
    centres = np.array([sight.centres for sight in sights])
    if not len(centres):
        return ()
    if points is None:
        return numbered(centres.shape[1])
    frames = np.array([fit.data.pixels[int(row)].size for row in chosen], np.float64)
    matches = match_parts(
        frames_to_pixels(centres, frames, images),
        points[chosen],
        catalog.keypoint_names,
        object_sizes(catalog, chosen, frames),
        frames,
    )
    names = names_of(centres.shape[1], matches)
    told = [match.keypoint for match in matches if match.tells]
    if told:
        fit.listener.note(f"{len(told)} of {len(names)} parts lie at key points: {', '.join(told)}")
    else:
        fit.listener.note("No part lies at a key point")
    return names
