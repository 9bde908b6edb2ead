"""Curves and the frames that parts of a bird are drawn in.

A frame places points given in a part's own coordinates: `Strip` (along 0 … 1, across -1 … 1) serves body, wing and
tail; `Disc` (forward, down, in radii) the head. Bird coordinates: x forward, y down, the trunk about 1 long.
Arrays of points are (N, 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Disc", "Points", "Strip", "box_of", "points", "spline", "turned"]

Points = NDArray[np.float64]


def points(values: ArrayLike) -> Points:
    """An (N, 2) array."""
    return np.asarray(values, dtype=np.float64).reshape(-1, 2)


def box_of(numbers: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """x, y, width, height of what is not 0 in (H, W), which must be something."""
    rows, columns = (np.flatnonzero(numbers.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


@cache
def _basis(samples: int) -> Points:
    t = np.arange(samples) / samples
    rows = [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3]
    return np.stack(rows, axis=1) / 2  # (samples, 4)


def spline(corners: ArrayLike, *, closed: bool = True, samples: int = 6) -> Points:
    """A smooth curve through the corners (Catmull and Rom, 1974): (N · samples, 2), one row more where it is open."""
    knots = np.asarray(corners, dtype=np.float64)
    n = len(knots)
    index = np.arange(n if closed else n - 1)[:, None] + np.arange(-1, 3)
    index = index % n if closed else index.clip(0, n - 1)
    curve = np.einsum("sk,nkd->nsd", _basis(samples), knots[index]).reshape(-1, knots.shape[1])
    return curve if closed else np.concatenate([curve, knots[-1:]])


def turned(values: ArrayLike, angle: float) -> Points:
    """Points turned about the origin by `angle` radians, forward towards up."""
    array = points(values)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([array[:, 0] * cos + array[:, 1] * sin, array[:, 1] * cos - array[:, 0] * sin], axis=1)


@dataclass(frozen=True, eq=False)
class Strip:
    """A band around a curved line."""

    line: Points
    """(N, 2), evenly spaced."""
    above: NDArray[np.float64]
    """(N,) half width on the side of across = -1 (the back)."""
    below: NDArray[np.float64]
    """(N,) half width on the side of across = +1 (the belly)."""
    notch: float = 0.0
    """How much the middle of the far end is cut in (a fork) or, below zero, drawn out (a point)."""
    hand: int = 1
    """1 for a line that runs forward, -1 for one that runs backward: the belly stays at across = 1."""

    @cached_property
    def _knots(self) -> tuple[NDArray[np.float64], ...]:
        """Along, and at each of these: centre x and y, direction of the belly x and y, both half widths."""
        slope = np.gradient(self.line, axis=0)
        slope *= self.hand / np.hypot(*slope.T)[:, None]
        return np.linspace(0, 1, len(slope)), *self.line.T, -slope[:, 1], slope[:, 0], self.above, self.below

    def place(self, coordinates: ArrayLike) -> Points:
        """Points of (along, across), in bird coordinates."""
        along, across = points(coordinates).T
        if self.notch:
            side = np.abs(across)
            along = along * (1 - self.notch * (1 - side if self.notch > 0 else -(side**2)))
        knots, *columns = self._knots
        x, y, down_x, down_y, above, below = (np.interp(along, knots, column) for column in columns)
        reach = across * np.where(across < 0, above, below)
        return np.stack([x + reach * down_x, y + reach * down_y], axis=1)

    def outline(self) -> Points:
        """The edge of the whole band."""
        along = np.linspace(0, 1, len(self.line))
        end = np.linspace(-1, 1, 9)[1:-1]
        upper = np.stack([along, np.full_like(along, -1.0)], axis=1)
        cap = np.stack([np.ones_like(end), end], axis=1)
        lower = np.stack([along[::-1], np.ones_like(along)], axis=1)
        return self.place(np.concatenate([upper, cap, lower]))


@dataclass(frozen=True, eq=False)
class Disc:
    """A round part with a direction that it faces."""

    centre: Points
    """(1, 2)"""
    radius: float
    angle: float
    """Radians, forward towards up."""
    squeeze: float = 1.0
    """Shorter in the direction that it faces, as a head turned towards the viewer is."""

    def place(self, coordinates: ArrayLike) -> Points:
        """Points of (forward, down), in bird coordinates."""
        local = points(coordinates) * (self.squeeze, 1.0)
        return self.centre + self.radius * turned(local, self.angle)

    def circle(self, centre: tuple[float, float] = (0.0, 0.0), radius: float = 1.0) -> Points:
        """The edge of a circle within the part."""
        angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        return self.place(np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1))
