"""Poses laid over one another: similarities by least squares, and the mean of many poses.

Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991; Gower, "Generalized
Procrustes analysis", 1975. A pose is the key points of a picture as complex numbers x + iy, NaN where one cannot be
seen. A similarity without reflection is then z → turn · z + shift, and the least-squares one over the points seen in
both is, with means p̄ and q̄ and weights w,

    turn = Σ w conj(p − p̄)(q − q̄) / Σ w |p − p̄|²        shift = q̄ − turn · p̄

which is Umeyama's in two dimensions, without singular vectors. Things look to the left or to the right, and a
similarity would stand those upside down that look the other way. So a pose is compared with the mirror image of the
other one, too, in which left and right points are exchanged; no picture is mirrored for it.

Deviations: the mean of poses is taken over the points that are seen, and it is upright and as large as the pictures
show it, not of unit size.

Shapes: N poses, P key points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST_POINTS", "Fit", "fit", "mean_pose", "mirrored", "nearer", "pose_of"]

Complex = NDArray[np.complex128]
Floats = NDArray[np.float64]

FEWEST_POINTS = 3
"""Two points fit any two others exactly, which says nothing."""
_ROUNDS = 100
_CLOSE = 1e-6
_POINT = 1e-6
"""Poses smaller than this, in pixels squared, are one point."""


@dataclass(frozen=True)
class Fit:
    """The similarity z → turn · z + shift that lays a pose over another one; of many poses: arrays of such."""

    turn: Complex
    shift: Complex
    distance: Floats
    """What remains between the points, root mean square, relative to the size of the target (the root mean square
    distance of its points from their middle); infinite where fewer than three points are seen in both."""

    def __call__(self, pose: Complex) -> Complex:
        """The pose (…, P) as it lies then."""
        return np.asarray(self.turn)[..., None] * pose + np.asarray(self.shift)[..., None]


def pose_of(keypoints: NDArray[np.floating], size: NDArray[np.integer] | tuple[int, int]) -> Complex:
    """Key points (…, P, 3) x, y, visible of pictures whose width and height are `size` (…, 2) → poses (…, P).

    What is not visible, not a number or outside the picture cannot be seen.
    """
    place = keypoints[..., :2].astype(np.float64)
    with np.errstate(invalid="ignore"):
        inside = ((place >= 0) & (place < np.asarray(size)[..., None, :])).all(axis=-1)
    seen = inside & (keypoints[..., 2] > 0)
    return np.where(seen, place[..., 0] + 1j * place[..., 1], np.nan)


def mirrored(pose: Complex, mirror: NDArray[np.int64]) -> Complex:
    """The pose (…, P) in the mirror image, x → −x; `mirror` as of `mirror_permutation`."""
    return -np.conj(pose[..., mirror])


def fit(pose: Complex, target: Complex, weights: Floats | None = None) -> Fit:
    """The least-squares similarity without reflection from `pose` (…, P) to `target` (…, P), which broadcast.

    `weights` (…, P) say how much each point counts; one that is not seen in both counts nothing.
    """
    pose, target = np.broadcast_arrays(pose, target)
    both = ~(np.isnan(pose) | np.isnan(target))
    weight = both * (1.0 if weights is None else weights)
    total = weight.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = weight / total[..., None]
        p, q = np.where(both, pose, 0), np.where(both, target, 0)
        p_mean, q_mean = (share * p).sum(-1), (share * q).sum(-1)
        p, q = np.where(both, p - p_mean[..., None], 0), np.where(both, q - q_mean[..., None], 0)
        p_size, q_size = (share * abs(p) ** 2).sum(-1), (share * abs(q) ** 2).sum(-1)
        turn = (share * p.conj() * q).sum(-1) / p_size
        rest = (share * abs(turn[..., None] * p - q) ** 2).sum(-1)
        usable = (both.sum(-1) >= FEWEST_POINTS) & (p_size > _POINT) & (abs(turn) > 0)
        distance = np.where(usable, np.sqrt(rest / q_size), np.inf)
    return Fit(turn, q_mean - turn * p_mean, distance)


def nearer(poses: Complex, target: Complex, mirror: NDArray[np.int64]) -> tuple[Fit, NDArray[np.bool_]]:
    """Each pose (N, P), or its mirror image if that is nearer, laid over `target` (P,): fits and which of the two."""
    straight, other = fit(poses, target), fit(mirrored(poses, mirror), target)
    way = other.distance < straight.distance
    turn, shift, distance = (
        np.where(way, theirs, own)
        for own, theirs in zip(
            (straight.turn, straight.shift, straight.distance), (other.turn, other.shift, other.distance), strict=True
        )
    )
    return Fit(turn, shift, distance), way


def mean_pose(poses: Complex, sizes: NDArray[np.integer], mirror: NDArray[np.int64]) -> Complex | None:
    """The pose (P,) of the average picture, measured from its middle in units of √(width · height).

    poses (N, P) in pictures whose widths and heights are `sizes` (N, 2). Size and place are those of the median
    picture, and it stands as upright as they do. Poses that look the other way count by their mirror images. NaN for a
    point that is never seen; None where no picture shows three points.
    """
    poses, sizes = (array[(~np.isnan(poses)).sum(1) >= FEWEST_POINTS] for array in (poses, sizes))
    if not len(poses):
        return None
    mean = _unit(poses[(~np.isnan(poses)).sum(1).argmax()])
    for _ in range(_ROUNDS):
        fits, way = nearer(poses, mean, mirror)
        facing = np.where(way[:, None], mirrored(poses, mirror), poses)
        before, mean = mean, _unit(_mean(fits(facing)))
        if np.nanmax(abs(mean - np.where(np.isnan(before), np.inf, before))) < _CLOSE:
            break
    fits, way = nearer(poses, mean, mirror)
    usable = np.isfinite(fits.distance)
    turn, shift = fits.turn[usable], fits.shift[usable]
    width, height = sizes[usable].T.astype(np.float64)
    middle = turn * (np.where(way[usable], -width, width) + 1j * height) / 2 + shift
    upright = np.exp(-1j * np.angle((turn / abs(turn)).sum()))
    side = np.exp(np.median(np.log(abs(turn) * np.sqrt(width * height))))
    centre = np.median((upright * middle).real) + 1j * np.median((upright * middle).imag)
    return (upright * mean - centre) / side


def _mean(poses: Complex) -> Complex:
    """Over the poses in which a point is seen."""
    seen = ~np.isnan(poses)
    with np.errstate(invalid="ignore"):
        return np.where(seen, poses, 0).sum(0) / np.where(seen.any(0), seen.sum(0), np.nan)


def _unit(pose: Complex) -> Complex:
    """Moved to the origin and brought to unit size, so that a mean of poses does not dwindle."""
    centred = pose - np.nanmean(pose)
    return centred / np.sqrt(np.nanmean(abs(centred) ** 2))
