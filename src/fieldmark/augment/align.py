"""Alignment: a picture turned, enlarged and moved so that its pose is the average one, give or take.

The least-squares similarity without reflection (Umeyama 1991) from the picture's key points to `similarity.mean_pose`,
or to its mirror image where that is nearer; nothing is mirrored. It is limited by what the picture shows: it never
shrinks, and it moves no further than to the picture's edge. It is left turned by up to 15° either way, and the usual
random crop comes afterwards, so that no two views are alike.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fieldmark.augment.mesh import Mesh
from fieldmark.augment.similarity import fit, mirrored, pose_of
from fieldmark.data.loader import Marked

__all__ = ["aligned"]

_JITTER = math.radians(15)
_MOST_TURNED = math.radians(60)
"""What would have to be turned by more is left alone: it hangs, or is seen from where its sides cannot be told."""
_LARGEST = 2.0
"""Enlarged further it would be a blur."""


def aligned(
    picture: Marked, canonical: NDArray[np.complex128], mirror: NDArray[np.int64], rng: np.random.Generator
) -> Marked:
    """A picture of the same size in the pose `canonical` (P,), as `mean_pose` gives it.

    The picture as it is where it shows fewer than three of the points, or stands too differently.
    """
    jitter = rng.uniform(-_JITTER, _JITTER)
    if picture.keypoints is None:
        return picture
    height, width = picture.pixels.shape[:2]
    pose = pose_of(picture.keypoints, (width, height))
    targets: NDArray[np.complex128] = np.stack([canonical, mirrored(canonical, mirror)])
    found = fit(pose, targets * math.sqrt(height * width))
    way = int(found.distance.argmin())
    turn, shift = complex(found.turn[way]), complex(found.shift[way])
    if not np.isfinite(found.distance[way]) or abs(np.angle(turn)) > _MOST_TURNED:
        return picture
    subject = complex(np.nanmean(pose))
    scale = min(max(abs(turn), 1.0), _LARGEST)
    limited = scale * turn / abs(turn) * np.exp(1j * jitter)
    middle = subject - (turn * subject + shift) / limited  # of what will be seen, if the subject lies as it should
    half_width = (abs(limited.real) * width + abs(limited.imag) * height) / (2 * scale**2)
    half_height = (abs(limited.imag) * width + abs(limited.real) * height) / (2 * scale**2)
    middle = _within(middle.real, half_width, width) + 1j * _within(middle.imag, half_height, height)
    corner = complex(width, height) / 2
    sources = middle + np.array([[-corner, corner.conjugate()], [-corner.conjugate(), corner]]) / limited
    return Mesh(np.stack([sources.real, sources.imag], axis=-1), (width, height)).bend(picture)


def _within(middle: float, half: float, length: int) -> float:
    """The place nearest to `middle` from which `half` either way stays within the length, if there is any."""
    return min(max(middle, half), length - half) if 2 * half < length else length / 2
