"""Which regions carry the margin: the cells of a method's part maps, or connected cells of strong evidence.

Shapes: M parts, h × w cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

__all__ = ["LEAST_PEAK", "Region", "find_regions"]

NUM_REGIONS = 3
LEAST_SHARE = 0.15
"""Of the first region's evidence; what carries less is not named."""
LEAST_PEAK = 0.3
"""Of the highest peak; what is spread thinly over the background is no mark."""
EXTENT = 0.35
"""A region is where the evidence is at least this share of its peak."""
MOST_CELLS = 0.2
"""Of the picture: a larger region says little about where to look."""


@final
@dataclass(frozen=True, eq=False)
class Region:
    """A region of cells that contribute together."""

    cells: NDArray[np.bool_]
    """(h, w)."""
    share: float
    """The share of all evidence for A."""
    peak: tuple[float, float]
    """x, y of the strongest evidence, as shares of the picture."""
    part: int | None = None
    """The number of the method's part, if the region is one."""


def find_regions(cells: NDArray[np.float32], parts: Tensor | None = None, *, most: int = NUM_REGIONS) -> list[Region]:
    """The regions that are evidence for A, the strongest first; [] if there are none.

    cells (h, w) is what each contributes to the margin, parts (M, h″, w″) the method's part maps if it has any.
    """
    located = cells.clip(min=0)
    if located.max(initial=0) <= 0:
        return []
    grouped = _by_parts(parts, located) if parts is not None else _by_peaks(located, most)
    regions = [_region(cells, located, part) for part, cells in grouped if cells.any()]
    regions.sort(key=lambda region: -region.share)
    return [region for region in regions[:most] if region.share > 0 and region.share >= LEAST_SHARE * regions[0].share]


def _region(cells: NDArray[np.bool_], located: NDArray[np.float32], part: int | None) -> Region:
    inside = np.where(cells, located, 0)
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    height, width = located.shape
    place = ((float(column) + 0.5) / width, (float(row) + 0.5) / height)
    return Region(cells, float(inside.sum() / located.sum()), place, part)


def _by_peaks(located: NDArray[np.float32], most: int) -> list[tuple[None, NDArray[np.bool_]]]:
    """Grow a region around the highest peak, set it aside, go on with the next."""
    smooth = ndimage.gaussian_filter(located, 0.6)
    found: list[tuple[None, NDArray[np.bool_]]] = []
    left = smooth.copy()
    for _ in range(2 * most):
        peak = np.unravel_index(int(left.argmax()), left.shape)
        if left[peak] <= LEAST_PEAK * smooth.max():
            break
        above = left >= max(EXTENT * left[peak], np.quantile(left, 1 - MOST_CELLS))
        labels, _ = ndimage.label(above)
        cells = labels == labels[peak]
        found.append((None, cells))
        left[ndimage.binary_dilation(cells)] = 0
    return found


def _by_parts(parts: Tensor, located: NDArray[np.float32]) -> list[tuple[int, NDArray[np.bool_]]]:
    """(M, h″, w″) → the cells where each part is strongest, and at least half as strong as anywhere."""
    maps = F.interpolate(parts[None].float(), size=located.shape, mode="bilinear", align_corners=False)[0].numpy(
        force=True
    )
    owner = maps.argmax(axis=0)
    peaks = maps.max(axis=(1, 2))
    return [(m, (owner == m) & (maps[m] >= EXTENT * peaks[m])) for m in range(len(maps)) if peaks[m] > 0]
