"""Part swap: the region around a key point exchanged for the same part of another picture of its class.

No paper's method: CutMix's idea (Yun et al. 2019) carried out where it keeps the label and the anatomy. The donor is
laid over the picture by a similarity (Umeyama 1991) in which the points near the part count most, moved so that the
part's key point meets its own. It is seen within a disc around that point and, so that its background stays behind,
within the convex hulls of the key points of both; it fades away towards their edges.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmark.augment.mesh import sample
from fieldmark.augment.similarity import FEWEST_POINTS, fit, nearer, pose_of
from fieldmark.data.loader import Marked

__all__ = ["fitting_donors", "mirror_image", "swapped"]

Complex = NDArray[np.complex128]

_RADII = (0.5, 1.0)
"""Of the region, relative to the size of the pose: the root mean square distance of its points from their middle."""
_EDGE = 0.5
"""Share of the radius over which one picture fades into the other."""
_MARGIN = 0.25
"""By which it goes beyond the hull, relative to the size of the pose: key points lie within the outline of a thing."""
_DIRECTIONS = np.exp(2j * np.pi * np.arange(24) / 24)
_MOST_APART = 0.25
"""Poses that differ by more, relative to their size, have no part in the same place."""
_MOST_TURNED = math.radians(60)
_MOST_SCALED = 2.0


def fitting_donors(
    pose: Complex, others: Complex, mirror: NDArray[np.int64], *, flip: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of the poses `others` (M, P) are near enough to `pose` (P,), and which are nearer in the mirror (M,) each.

    Without `flip` no donor is mirrored.
    """
    found, way = nearer(others, pose, mirror) if flip else (fit(others, pose), np.zeros(len(others), bool))
    return (found.distance <= _MOST_APART) & (abs(np.angle(found.turn)) <= _MOST_TURNED), way


def swapped(picture: Marked, donor: Marked, rng: np.random.Generator) -> Marked:
    """The picture with one part of the donor's, which looks the same way.

    The box stays. A key point in the region goes to where the donor has it, or cannot be seen if the donor does not
    show it. The picture as it is where fewer than three points are seen in both, or the part lies too differently.
    """
    draw, radius = rng.random(), rng.uniform(*_RADII)
    if picture.keypoints is None or donor.keypoints is None:
        return picture
    pose = pose_of(picture.keypoints, picture.pixels.shape[1::-1])
    other = pose_of(donor.keypoints, donor.pixels.shape[1::-1])
    common = np.flatnonzero(~np.isnan(pose) & ~np.isnan(other))
    if len(common) < FEWEST_POINTS:
        return picture
    part = int(common[int(draw * len(common))])
    size = math.sqrt(float(np.mean(abs(pose[common] - pose[common].mean()) ** 2)))
    radius *= size
    near = np.exp(-(abs(np.where(np.isnan(pose), np.inf, pose) - pose[part]) ** 2) / (2 * radius**2))
    turn = complex(fit(other, pose, near).turn)
    if not (1 / _MOST_SCALED <= abs(turn) <= _MOST_SCALED and abs(np.angle(turn)) <= _MOST_TURNED):
        return picture
    there = turn * (other - other[part]) + pose[part]
    hulls = (pose[~np.isnan(pose)], there[~np.isnan(there)])
    region = _Region(complex(pose[part]), radius, _MARGIN * size, hulls)
    pixels = _blended(picture.pixels, donor.pixels, region, complex(other[part]), turn)
    return Marked(pixels, picture.box, _exchanged(picture.keypoints, pose, there, region))


def mirror_image(picture: Marked, mirror: NDArray[np.int64]) -> Marked:
    """The picture, its box and its key points mirrored, left and right points exchanged."""
    width = picture.pixels.shape[1]
    box, points = picture.box, picture.keypoints
    if box is not None:
        box = np.array([width - box[0] - box[2], box[1], box[2], box[3]], np.float32)
    if points is not None:
        points = points[mirror] * np.array([-1, 1, 1], np.float32) + np.array([width, 0, 0], np.float32)
    return Marked(picture.pixels[:, ::-1].copy(), box, points)


class _Region(NamedTuple):
    """Where the donor is seen."""

    middle: complex
    radius: float
    margin: float
    hulls: tuple[Complex, ...]
    """The points that span each."""

    def share(self, places: Complex) -> NDArray[np.float64]:
        """How much of the donor is seen at these places: from 1 in the middle to 0 outside, smoothly."""
        beyond = np.full(places.shape, -np.inf)  # the hulls, which end at their farthest points in each direction
        for way in _DIRECTIONS.conj():
            edge = min((hull * way).real.max() for hull in self.hulls)
            beyond = np.maximum(beyond, (places * way).real - edge)
        round_it = (self.radius - np.abs(places - self.middle)) / (_EDGE * self.radius)
        return _smooth(round_it) * _smooth((self.margin - beyond) / self.margin)


def _smooth(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 at 0 to 1 at 1."""
    x = x.clip(0, 1)
    return x * x * (3 - 2 * x)


def _blended(
    pixels: NDArray[np.uint8], donor: NDArray[np.uint8], region: _Region, there: complex, turn: complex
) -> NDArray[np.uint8]:
    """`pixels` with the region taken from `donor`, whose place `there` comes to the middle of it."""
    (x, y), radius = (region.middle.real, region.middle.imag), region.radius
    height, width = pixels.shape[:2]
    left, right = max(0, math.floor(x - radius)), min(width, math.ceil(x + radius))
    top, bottom = max(0, math.floor(y - radius)), min(height, math.ceil(y + radius))
    places: Complex = (np.arange(left, right) + 0.5) + 1j * (np.arange(top, bottom)[:, None] + 0.5)
    sources = (places - region.middle) / turn + there
    taken = sample(donor, np.stack([sources.real, sources.imag], axis=-1))
    share = region.share(places)[..., None]
    mixed = pixels.copy()
    part = mixed[top:bottom, left:right]
    part[:] = np.rint(part + share * (taken.astype(np.float64) - part)).astype(np.uint8)
    return mixed


def _exchanged(points: NDArray[np.float32], pose: Complex, there: Complex, region: _Region) -> NDArray[np.float32]:
    """The key points (P, 3) of the mixture: everywhere those of the picture that is seen more there."""
    gone, come = (region.share(places) > 0.5 for places in (pose, there))
    points = np.where(gone[:, None], 0, points)
    found = np.column_stack([there.real, there.imag, np.ones(len(there))])
    return np.where((come & (gone | np.isnan(pose)))[:, None], found, points).astype(np.float32)
