"""A picture that is bent: where each place of the new picture comes from in the old one.

The map is bilinear within the cells of a regular grid. So it folds nowhere if, and only if, its Jacobian determinant
is positive at the four corners of every cell, since the determinant is linear between them: what is checked on the
grid holds everywhere. And so it can be inverted cell by cell, which moves key points exactly as it moves pixels.

Shapes: H × W picture, R × C cells, P key points. Coordinates are continuous: pixel i covers [i, i + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

from fieldmark.data.loader import Marked

__all__ = ["Mesh", "sample"]

Floats = NDArray[np.float64]
_STEPS = 8
"""Of Newton's method within a cell; it converges quadratically."""


@final
@dataclass(frozen=True)
class Mesh:
    """Where the corners of the new picture's cells come from."""

    sources: Floats
    """(R + 1, C + 1, 2) x, y in the old picture."""
    size: tuple[int, int]
    """Width and height of the new picture."""

    def gentle(self, limit: float) -> bool:
        """Whether nothing folds, and nothing becomes more than `limit` times longer or shorter in any direction.

        That is: everywhere the determinant of the Jacobian is positive and its singular values are in
        [1 / limit, limit].
        """
        width, height = self.size[0] / (self.sources.shape[1] - 1), self.size[1] / (self.sources.shape[0] - 1)
        along_x, along_y = np.diff(self.sources, axis=1) / width, np.diff(self.sources, axis=0) / height
        for x in (along_x[:-1], along_x[1:]):  # at a cell's corner two of its edges meet
            for y in (along_y[:, :-1], along_y[:, 1:]):
                determinant = x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]
                squares = (x**2).sum(-1) + (y**2).sum(-1)  # of the singular values, whose product is the determinant
                apart = np.sqrt((squares**2 - 4 * determinant**2).clip(0))
                largest, smallest = np.sqrt((squares + apart) / 2), np.sqrt((squares - apart).clip(0) / 2)
                if not ((determinant > 0) & (largest <= limit) & (smallest >= 1 / limit)).all():
                    return False
        return True

    def bend(self, picture: Marked) -> Marked:
        """The new picture, with box and key points. Beyond its edges the old one is mirrored."""
        places = self._places()
        box = None if picture.box is None else _box_of(places, picture.box)
        return Marked(sample(picture.pixels, places), box, self.move(picture.keypoints, picture.pixels))

    def move(self, points: NDArray[np.float32] | None, pixels: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Where key points (P, 3) of the old picture are in the new one; zeros where they cannot be seen."""
        if points is None:
            return None
        height, width = pixels.shape[:2]
        with np.errstate(invalid="ignore"):
            seen = (points[:, 2] > 0) & (points[:, :2] >= 0).all(1) & (points[:, :2] < (width, height)).all(1)
        found = self._inverted(np.where(seen[:, None], points[:, :2], np.nan).astype(np.float64))
        seen &= np.isfinite(found).all(1)
        return np.where(seen[:, None], np.column_stack([found, seen]), 0).astype(np.float32)

    def _places(self) -> Floats:
        """(H, W, 2) where each pixel's middle comes from."""
        rows, columns = self.sources.shape[0] - 1, self.sources.shape[1] - 1
        down, across = _between(self.size[1], rows), _between(self.size[0], columns)
        return np.stack([down @ self.sources[..., axis] @ across.T for axis in (0, 1)], axis=-1)

    def _inverted(self, points: Floats) -> Floats:
        """(P, 2) the places in the new picture that come from these; NaN where none does."""
        rows, columns = self.sources.shape[0] - 1, self.sources.shape[1] - 1
        corners = np.stack(
            [self.sources[:-1, :-1], self.sources[:-1, 1:], self.sources[1:, 1:], self.sources[1:, :-1]]
        ).reshape(4, -1, 2)
        edges = np.roll(corners, -1, axis=0) - corners
        towards = points[:, None, None] - corners  # (P, 4, R·C, 2)
        inside = np.all(edges[..., 0] * towards[..., 1] - edges[..., 1] * towards[..., 0] >= 0, axis=1)
        cell = inside.argmax(1)
        a, b, c, d = corners[:, cell]
        place = np.full_like(points, 0.5)
        for _ in range(_STEPS):
            s, t = place[:, :1], place[:, 1:]
            along_s, along_t = (1 - t) * (b - a) + t * (c - d), (1 - s) * (d - a) + s * (c - b)
            rest = points - ((1 - s) * (1 - t) * a + s * (1 - t) * b + s * t * c + (1 - s) * t * d)
            determinant = along_s[:, 0] * along_t[:, 1] - along_s[:, 1] * along_t[:, 0]
            step = np.column_stack(
                [
                    rest[:, 0] * along_t[:, 1] - rest[:, 1] * along_t[:, 0],
                    along_s[:, 0] * rest[:, 1] - along_s[:, 1] * rest[:, 0],
                ]
            )
            place = place + step / determinant[:, None]
        found = (np.column_stack(np.divmod(cell, columns)[::-1]) + place) * self.size / (columns, rows)
        return np.where(np.any(inside, axis=1)[:, None], found, np.nan)


def _between(length: int, cells: int) -> Floats:
    """(length, cells + 1) how much each corner counts for each pixel's middle."""
    middle = (np.arange(length) + 0.5) * cells / length
    return (1 - abs(middle[:, None] - np.arange(cells + 1))).clip(0)


def _box_of(places: Floats, box: NDArray[np.float32]) -> NDArray[np.float32]:
    """The upright box around the pixels that come from inside `box`; NaN where there is none."""
    inside = np.all((places >= box[:2]) & (places < box[:2] + box[2:]), axis=-1)
    columns, rows = (np.flatnonzero(np.any(inside, axis=axis)) for axis in (0, 1))
    if not len(columns):
        return np.full(4, np.nan, np.float32)
    left, top = columns[0], rows[0]
    return np.array([left, top, columns[-1] + 1 - left, rows[-1] + 1 - top], np.float32)


def sample(pixels: NDArray[np.uint8], places: Floats) -> NDArray[np.uint8]:
    """The colours (h, w, 3) of a picture at these places (h, w, 2), bicubic; beyond its edges it is mirrored."""
    height, width = pixels.shape[:2]
    grid = torch.from_numpy((2 * places / (width, height) - 1).astype(np.float32))
    picture = torch.from_numpy(pixels).permute(2, 0, 1).float()
    found = grid_sample(picture[None], grid[None], mode="bicubic", padding_mode="reflection", align_corners=False)
    return found[0].round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
