"""Which discovered part matches which key point: names for parts, and how far they are from the points.

Shapes: N images, M parts, P key points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

__all__ = ["Match", "match_parts", "names_of", "numbered", "placements"]

Floats = NDArray[np.float64]

_NEAR = 0.75
"""Chosen by looking at discovered parts of birds: those at 0.37 to 0.68 were what they were called, those at 0.88 and
0.95 were bellies and branches called legs."""


@dataclass(frozen=True)
class Match:
    """A part and the key point that it matches. Distances are relative to the size of the object, which is the root of
    the area of its box or, without a box, of the picture."""

    part: int
    keypoint: str
    distance: float
    """The mean distance over the images in which the key point is visible."""
    constant: float
    """The distance if the part were always at the key point's average position, in shares of the picture."""
    num_images: int

    @property
    def tells(self) -> bool:
        """Whether the part locates the key point clearly better than its average position does.

        A part that is only a tenth nearer than that lies on the object, but not at, say, its leg.
        """
        return self.distance < _NEAR * self.constant


def placements(centres: NDArray[np.floating], keypoints: NDArray[np.floating], sizes: NDArray[np.floating]) -> Floats:
    """Centres (N, M, 2) and key points (N, P, 3) in pixels, sizes (N,) → mean distances (M, P); NaN where a key point
    is never visible."""
    seen = _seen(keypoints)
    distances = np.linalg.norm(centres[:, :, None, :2] - keypoints[:, None, :, :2], axis=-1) / sizes[:, None, None]
    counts = seen.sum(axis=0)  # (P,)
    total = np.where(seen[:, None, :], distances, 0.0).sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def match_parts(
    centres: NDArray[np.floating],
    keypoints: NDArray[np.floating],
    names: Sequence[str],
    sizes: NDArray[np.floating],
    frames: NDArray[np.floating],
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> list[Match]:
    """The one-to-one match of parts and key points that makes the sum of mean distances least (Hungarian method).

    Centres (N, M, 2), key points (N, P, 3), sizes (N,) of the objects and frames (N, 2), width and height of the
    pictures, all in pixels of the original pictures. A point counts where it is visible and inside its picture; one
    that never is has no match. With `pairs` of part and key point these are measured instead.
    """
    places = keypoints[..., :2]
    inside = np.all((places >= 0) & (places < frames[:, None]), axis=-1, keepdims=True)  # (N, P, 1), false for NaN
    keypoints = np.where(inside, keypoints, 0.0)
    cost = placements(centres, keypoints, sizes)
    if pairs is None:
        known = np.flatnonzero(~np.isnan(cost[0]))
        rows, columns = linear_sum_assignment(cost[:, known])
        pairs = list(zip(rows.tolist(), known[columns].tolist(), strict=True))
    seen = _seen(keypoints)
    matches = []
    for part, p in sorted(pairs):
        rows = np.flatnonzero(seen[:, p])
        if len(rows):
            constant = _constant(keypoints[rows, p], sizes[rows], frames[rows])
            matches.append(Match(part, names[p], float(cost[part, p]), constant, len(rows)))
    return matches


def _seen(keypoints: NDArray[np.floating]) -> NDArray[np.bool_]:
    seen: NDArray[np.bool_] = keypoints[..., 2] > 0
    return seen


def _constant(places: NDArray[np.floating], sizes: NDArray[np.floating], frames: NDArray[np.floating]) -> float:
    """Mean distance of places (n, 3) from their mean in shares of the picture."""
    mean = (places[:, :2] / frames).mean(axis=0)
    return float((np.linalg.norm(places[:, :2] - mean * frames, axis=1) / sizes).mean())


def names_of(num_parts: int, matches: Sequence[Match]) -> tuple[str, ...]:
    """The names of the parts: the key point's name for a part that locates one, else a number."""
    told = {match.part: match.keypoint for match in matches if match.tells}
    return tuple(told.get(part) or _number(part, set(told.values())) for part in range(num_parts))


def numbered(num_parts: int) -> tuple[str, ...]:
    """Numbers as names, for parts about which nothing is known."""
    return names_of(num_parts, ())


def _number(part: int, taken: set[str]) -> str:
    name = f"part {part + 1}"
    while name in taken:  # key points that were discovered themselves may be called so
        name += "'"
    return name
