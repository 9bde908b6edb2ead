"""`candidates`: pairs of images that may show one picture, cropped, mirrored or turned, from their thumbnails alone.

A copy has each of its four edges moved inwards by up to 10 % of the width or height. The middle of that range, the
*central crop* with 5 % off every edge, stands for a picture in a search tree; whole thumbnails ask for it. They never
fit exactly, so the tree compares only what tells pictures apart whichever way they are cropped: Fisher's discriminant
directions of the lowest cosine frequencies, where "one class" is one picture's crops. Pictures and crops for this are
the collection's own, so that a composition which all of them share counts for nothing. The true picture is among the
eight nearest of 60,000 nearly always (benchmarks/README.md).

What is near is then fitted: to first order a crop moves the frequencies by J a, with J their derivatives (F, 4) by the
edges, so min_a ‖f(copy) − f(central crop) − J a‖ is a small least-squares problem. What remains decides.

Shapes: N thumbnails, F frequencies, M pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.linalg import eigh
from scipy.spatial import cKDTree

from fieldmark.data.duplicates import COLOUR, NOISE, PRIOR, SIDE

__all__ = ["VIEWS", "Candidates", "candidates"]

Floats = NDArray[np.float32]

VIEWS: Final[dict[str, Callable[[NDArray[Any]], NDArray[Any]]]] = {
    "": lambda pictures: pictures,
    "mirrored": lambda pictures: pictures[..., ::-1, :],
    "turned": lambda pictures: np.rot90(pictures, axes=(-3, -2)),
    "upside down": lambda pictures: pictures[..., ::-1, ::-1, :],
}
"""How a picture may be looked at: (…, H, W, 3) → the same, a quarter turn counter-clockwise for "turned"."""

_MIDDLE = 0.05
_FREQUENCIES, _COLOURS = 8, 3
"""Cosine frequencies per axis, of the brightness and of each colour difference."""
_KEPT = np.zeros((3, _FREQUENCIES, _FREQUENCIES), bool)
_KEPT[0], _KEPT[1:, :_COLOURS, :_COLOURS] = True, True
_KEPT[:, 0, 0] = False  # the mean colour is taken apart
_OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32)
_OPPONENT /= np.linalg.norm(_OPPONENT, axis=1, keepdims=True)
_SAMPLE, _CROPS = 1500, 8
"""Pictures and crops of each that the discriminant is fitted to."""
_DIRECTIONS = 12
_REACH = 16.0
"""Distance in the tree, in standard deviations of crops: 99 % of copies are within 13."""
_NEAREST = 8
_SLACK = 0.5
"""The tree may answer with neighbours that are farther than the nearest by this share: three times as fast."""
_RESIDUAL = 0.3
"""Of all copies 99 % are within 0.24."""
_BEST = 3
"""Candidates kept for each image and view."""
_CHUNK = 2048


class Candidates(NamedTuple):
    """M pairs; the most promising come first."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    view: NDArray[np.int64]
    """(M,) index into VIEWS: how `first` is looked at."""
    edges: Floats
    """(M, 4) what `first` lacks of `second` at the left, right, top and bottom, in shares of its sides."""

    def select(self, rows: slice | NDArray[np.int64]) -> Candidates:
        """Some of the pairs."""
        return Candidates(self.first[rows], self.second[rows], self.view[rows], self.edges[rows])


def candidates(thumbnails: NDArray[np.uint8], *, progress: Callable[[int, int], None] | None = None) -> Candidates:
    """Pairs of the thumbnails (N, SIDE, SIDE, 3) that deserve a look at their pixels; each pair is listed once.

    `progress` gets (done, total) of the searches, one for each image and view.
    """
    if len(thumbnails) < 2:
        none = np.empty(0, np.int64)
        return Candidates(none, none, none, np.empty((0, 4), np.float32))
    template = thumbnails.sum(0, dtype=np.float64) / (len(thumbnails) + PRIOR)
    shared = _cosines(_planes(template[None].astype(np.float32)), (0.0, 0.0, 0.0, 0.0))
    seen = [_features(view(thumbnails), shared, (0.0,) * 4) for view in VIEWS.values()]
    central = _features(thumbnails, shared, (_MIDDLE,) * 4)
    directions = _discriminant(thumbnails, shared, central)
    tree = cKDTree(central @ directions)
    number = min(_NEAREST, len(thumbnails))
    found = []
    for view, whole in enumerate(seen):
        for rows in _chunks(np.arange(len(whole))):
            near = tree.query(whole[rows] @ directions, k=number, eps=_SLACK, distance_upper_bound=_REACH, workers=-1)
            place, nth = np.nonzero(np.isfinite(near[0]))
            first, second = rows[place], near[1][place, nth]
            found.append(np.stack([first, second, np.full(len(first), view)], axis=1)[first != second])
            if progress:
                progress(view * len(whole) + int(rows[-1]) + 1, len(seen) * len(whole))
    return _fitted(np.concatenate(found), thumbnails, shared, seen, central)


def _fitted(
    pairs: NDArray[np.int64],
    thumbnails: NDArray[np.uint8],
    shared: Floats,
    seen: list[Floats],
    central: Floats,
) -> Candidates:
    """The pairs (first, second, view) whose remainder is small, with their edges."""
    pairs = pairs[np.argsort(pairs[:, 1], kind="stable")]
    edges, rest = np.empty((len(pairs), 4), np.float32), np.empty(len(pairs), np.float32)
    for start in range(0, len(thumbnails), _CHUNK):
        part = slice(*np.searchsorted(pairs[:, 1], (start, start + _CHUNK)))
        first, second, view = pairs[part].T
        wanted, place = np.unique(second, return_inverse=True)
        slopes = _slopes(thumbnails[wanted], shared)
        normal = slopes.swapaxes(1, 2) @ slopes + 1e-3 * np.eye(4, dtype=np.float32)
        for some in _chunks(np.arange(len(first))):
            difference = np.stack([seen[v][i] for v, i in zip(view[some], first[some], strict=True)])
            difference -= central[second[some]]
            slope = slopes[place[some]]
            moved = np.linalg.solve(normal[place[some]], slope.swapaxes(1, 2) @ difference[..., None])
            moved = moved.clip(-0.07, 0.07)
            rest[part][some] = np.linalg.norm(difference - (slope @ moved)[..., 0], axis=1)
            edges[part][some] = moved[..., 0] + _MIDDLE
    return _best(pairs, edges, rest)


def _best(pairs: NDArray[np.int64], edges: Floats, rest: Floats) -> Candidates:
    order = np.argsort(rest, kind="stable")
    order = order[rest[order] <= _RESIDUAL]
    order = order[_nth(pairs[order][:, [0, 2]]) < _BEST]
    ends = np.sort(pairs[order, :2], axis=1)
    _, once = np.unique(ends, axis=0, return_index=True)  # the first of each: the better way round, the better view
    order = order[np.sort(once)]
    first, second, view = pairs[order].T
    return Candidates(first, second, view, edges[order])


def _nth(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """(M,) how many rows before this one have the same key (M, n)."""
    _, inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    nth = np.empty(len(keys), np.int64)
    nth[order] = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    return nth


def _discriminant(thumbnails: NDArray[np.uint8], shared: Floats, central: Floats) -> Floats:
    """(F, D) the directions that tell pictures apart best for how little crops move them, crops having unit spread."""
    generator = np.random.default_rng(0)
    rows = np.sort(generator.permutation(len(thumbnails))[:_SAMPLE])
    moves = [
        _features(thumbnails[rows], shared, tuple(edges)) - central[rows]
        for edges in generator.uniform(0, 2 * _MIDDLE, (_CROPS, 4))
    ]
    within = np.concatenate(moves)
    spread = within.T @ within / len(within)
    spread += (1e-4 * np.trace(spread) / len(spread) + 1e-9) * np.eye(len(spread))
    between = np.cov(central[rows].T)
    last = len(spread) - 1
    _, directions = eigh(between, spread, subset_by_index=[last - _DIRECTIONS + 1, last])
    return directions.astype(np.float32)


def _slopes(thumbnails: NDArray[np.uint8], shared: Floats) -> Floats:
    """(n, F, 4) the derivatives of the central crop's features by its edges."""
    slopes = []
    for edge in range(4):
        ends = np.full((2, 4), _MIDDLE)
        ends[:, edge] = 0, 2 * _MIDDLE
        none, most = (_features(thumbnails, shared, tuple(end)) for end in ends)
        slopes.append((most - none) / (2 * _MIDDLE))
    return np.stack(slopes, axis=2)


def _features(thumbnails: NDArray[np.uint8], shared: Floats, edges: tuple[float, ...]) -> Floats:
    """(n, F) of crops by `edges`: as v in duplicates.py, but of the low frequencies only."""
    parts = [_features_of(part, shared, edges) for part in _chunks(thumbnails)]
    return np.concatenate(parts) if parts else np.empty((0, int(_KEPT.sum()) + 3), np.float32)


def _features_of(thumbnails: NDArray[np.uint8], shared: Floats, edges: tuple[float, ...]) -> Floats:
    cosines = _cosines(_planes(thumbnails.astype(np.float32)), edges)
    means = cosines[:, :, 0, 0] / SIDE
    rest = (cosines - shared)[:, _KEPT]
    rest /= np.linalg.norm(rest, axis=1, keepdims=True) + np.float32(NOISE * np.sqrt(3) * SIDE)
    return np.concatenate([rest, means / np.float32(COLOUR)], axis=1)


def _planes(pictures: Floats) -> Floats:
    """(n, SIDE, SIDE, 3) → (n, 3, SIDE, SIDE): brightness and two colour differences."""
    return np.ascontiguousarray((pictures @ _OPPONENT.T).transpose(0, 3, 1, 2))


def _cosines(planes: Floats, edges: tuple[float, ...]) -> Floats:
    """(n, 3, _FREQUENCIES, _FREQUENCIES), those along x first, of planes cropped by left, right, top and bottom."""
    left, right, top, bottom = edges
    across = (planes.reshape(-1, SIDE) @ _basis(left, right)).reshape(*planes.shape[:3], _FREQUENCIES)
    upright = np.ascontiguousarray(across.swapaxes(2, 3)).reshape(-1, SIDE) @ _basis(top, bottom)
    return upright.reshape(len(planes), 3, _FREQUENCIES, _FREQUENCIES)


@cache
def _basis(low: float, high: float) -> Floats:
    """(SIDE, _FREQUENCIES): a row of pixels → the cosine frequencies of what is left when its ends are cut off."""
    fine = 8
    place = (low + (1 - low - high) * (np.arange(SIDE * fine) + 0.5) / (SIDE * fine)) * SIDE - 0.5
    cell = np.arange(SIDE)
    weights = np.maximum(0, 1 - np.abs(place.clip(0, SIDE - 1)[:, None] - cell)).reshape(SIDE, fine, SIDE).mean(1)
    basis = dct(weights, axis=0, norm="ortho")[:_FREQUENCIES].T
    return np.ascontiguousarray(basis, np.float32)


def _chunks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]
