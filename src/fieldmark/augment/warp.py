"""Warp: a picture bent so that its subject stands as another one of its class does.

Bookstein, "Principal warps: thin-plate splines and the decomposition of deformations", 1989: the map that takes given
points to given places and bends least. With U(r) = r² log r it is, for control points cᵢ with displacements dᵢ,

    f(x) = x + a + A x + Σ wᵢ U(|x − cᵢ|)        (K + λI) w + Pᵀ(a, A) = d,   Pw = 0

Deviations. The map is taken backwards, from the new picture to the old one, which is what resampling needs. λ = 10⁻³
(in units of the picture's side) lets points stop a little short of their places where exactness would take much
bending. The middles and corners of the four edges are control points that stay. And it is limited: where it would fold
or stretch or compress anything more than twofold, all displacements are shrunk, by a fifth at a time, until it does not
(at last they are nothing, which is allowed).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldmark.augment.mesh import Mesh
from fieldmark.augment.similarity import mirrored, nearer, pose_of
from fieldmark.data.loader import Marked

__all__ = ["thin_plate_mesh", "warped"]

Complex = NDArray[np.complex128]
Floats = NDArray[np.float64]

_CELLS = 24
"""Along each side; a picture of 300 pixels has cells of 12."""
_SMOOTHING = 1e-3
_LIMIT = 2.0
_SHRINKING, _TRIES = 0.8, 12
_BORDER = np.array([[x, y] for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0) if (x, y) != (0.5, 0.5)])


def warped(picture: Marked, donor: Complex, mirror: NDArray[np.int64]) -> Marked:
    """The picture with its subject in the pose of `donor` (P,), as far as that is allowed.

    The donor's pose, or its mirror image where that is nearer, is first laid over the picture's by a similarity: size,
    place and direction stay what they were, and only how the points lie to one another changes. The picture as it is
    where fewer than three points are seen in both.
    """
    if picture.keypoints is None:
        return picture
    height, width = picture.pixels.shape[:2]
    pose = pose_of(picture.keypoints, (width, height))
    found, way = nearer(donor[None], pose, mirror)
    if not np.isfinite(found.distance[0]):
        return picture
    target = found(mirrored(donor, mirror) if way[0] else donor)[0]
    given = ~np.isnan(pose) & ~np.isnan(target)
    mesh = thin_plate_mesh(_points(pose[given]), _points(target[given]), (width, height))
    return picture if mesh is None else mesh.bend(picture)


def thin_plate_mesh(sources: Floats, targets: Floats, size: tuple[int, int]) -> Mesh | None:
    """The limited map of a picture of this width and height that takes `sources` (P, 2) towards `targets` (P, 2).

    None where only standing still is allowed.
    """
    side = float(np.sqrt(size[0] * size[1]))
    border = _BORDER * size
    controls = np.concatenate([targets, border]) / side
    moves = np.concatenate([sources - targets, np.zeros_like(border)]) / side
    still = _grid(size)
    bending = side * _spline(controls, moves, still.reshape(-1, 2) / side).reshape(still.shape)
    for _ in range(_TRIES):
        mesh = Mesh(still + bending, size)
        if mesh.gentle(_LIMIT):
            return mesh
        bending = bending * _SHRINKING
    return None


def _spline(controls: Floats, values: Floats, places: Floats) -> Floats:
    """The smoothing spline through `values` (n, d) at `controls` (n, 2), at `places` (m, 2) → (m, d)."""
    n = len(controls)
    affine = np.column_stack([np.ones(n), controls])
    system = np.block([[_bending(controls, controls) + _SMOOTHING * np.eye(n), affine], [affine.T, np.zeros((3, 3))]])
    solved = np.linalg.solve(system, np.concatenate([values, np.zeros((3, values.shape[1]))]))
    return _bending(places, controls) @ solved[:n] + np.column_stack([np.ones(len(places)), places]) @ solved[n:]


def _bending(places: Floats, controls: Floats) -> Floats:
    """U of the distances (m, n)."""
    squares = ((places[:, None] - controls) ** 2).sum(-1)
    return squares * np.log(np.where(squares > 0, squares, 1)) / 2


def _grid(size: tuple[int, int]) -> Floats:
    """(R + 1, C + 1, 2) the corners of a picture's cells."""
    x, y = (np.linspace(0, length, _CELLS + 1) for length in size)
    return np.stack(np.meshgrid(x, y), axis=-1)


def _points(pose: Complex) -> Floats:
    return np.column_stack([pose.real, pose.imag])
