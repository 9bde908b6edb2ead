"""`copies`: which images show one picture, whether re-encoded, resized, cropped, mirrored or turned.

`duplicates` decides for whole pictures by their thumbnails, exhaustively; a split needs no more. An audit wants to
know of crops too. One picture of each cluster of duplicates takes part; `candidates` proposes pairs, and the pixels
decide:

- the edges by which one lies within the other are found by Gauss-Newton steps on 32 × 32 pixels, blurred at first;
- both are compared on 64 × 64 pixels, the difference a little blurred, since two ways of sampling fine texture differ.
  Of 8 × 8 blocks the difference in the fourth worst, relative to the picture's contrast, is at most 0.25: a date in a
  corner may differ, a bird that moved may not.

Of pairs in CUB-200, Flowers-102 and CIFAR-10 with less than that every one looked at was one photograph, or one
subject a moment later; above lie the same species or kind of car before the same background (benchmarks/README.md).

Shapes: N images, M pairs, n pairs at once, S the side of the pictures compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.cluster.hierarchy import DisjointSet
from scipy.ndimage import gaussian_filter1d

from fieldmark.core.listener import Listener, Tick
from fieldmark.data.auditing.candidates import VIEWS, Candidates, candidates
from fieldmark.data.duplicates import NOISE, Fingerprints, are_flat, connected, near_duplicates

__all__ = ["Copy", "copies", "joined"]

Floats = NDArray[np.float32]
Pixels = Callable[[int], NDArray[np.uint8]]
"""Row → its pixels (H, W, 3)."""

_SIDE = 64
_BLOCKS = 8
_WORST = 4
_ALLOWED = 0.25
"""Of true copies 99 % are within 0.14."""
_SMOOTH = 1.6
"""Blur of the difference in pixels."""
_FARTHEST = 0.13
"""Edges beyond the 10 % that are searched for, since a fit overshoots a little."""
_STEPS = ((1.5, 3), (0.7, 3), (0.0, 3))
"""Blur and number of Gauss-Newton steps."""
_CROPPED = 0.02
_AT_ONCE, _THREADS = 64, 2
"""Pairs that are fitted together, and how often at the same time."""
_REMEMBERED = 4096
"""Pictures that are kept for the next pair, which take 12 kB each."""


@dataclass(frozen=True)
class Copy:
    """Two images that show one picture; the smaller row comes first."""

    first: int
    second: int
    how: str
    """"identical", "same picture", "cropped", "mirrored", "turned" (by a quarter) or "upside down"."""


def copies(fingerprints: Fingerprints, pixels: Pixels, *, listener: Listener | None = None) -> list[Copy]:
    """Pairs of rows that show one picture, enough to connect all that do, sorted.

    `pixels(i)` gives the image of fingerprint i, at any size.
    """
    listener = listener or Listener()
    with listener.progress("Comparing pictures") as tick:
        plain = near_duplicates(fingerprints, progress=tick)
    digests = fingerprints.digests
    found = [
        Copy(int(first), int(second), "identical" if digests[first] == digests[second] else "same picture")
        for first, second in plain
    ]
    numbers = connected(plain, len(fingerprints))
    _, one_of_each = np.unique(numbers, return_index=True)
    one_of_each = one_of_each[~are_flat(fingerprints.thumbnails[one_of_each])]
    with listener.progress("Searching for crops and turned copies") as tick:
        proposed = candidates(fingerprints.thumbnails[one_of_each], progress=tick)
    first, second = one_of_each[proposed.first], one_of_each[proposed.second]
    proposed = Candidates(first, second, proposed.view, proposed.edges)
    with listener.progress("Comparing pairs") as tick:
        found += _confirmed(proposed, pixels, tick)
    return sorted(found, key=lambda copy: (copy.first, copy.second))


def joined(pairs: Iterable[Copy], number: int) -> NDArray[np.int64]:
    """A number for each of `number` images: equal for those that show one picture, directly or through others."""
    ends = np.array([(pair.first, pair.second) for pair in pairs], np.int64).reshape(-1, 2)
    return connected(ends, number)


def _confirmed(proposed: Candidates, pixels: Pixels, tick: Tick) -> Iterator[Copy]:
    """The pairs whose pixels agree, except those that others join already."""
    views, total = list(VIEWS), len(proposed.first)
    look = lru_cache(_REMEMBERED)(lambda row: _reduced(pixels(row)))
    same = DisjointSet(np.unique([proposed.first, proposed.second]).tolist())

    def fitted(some: Candidates) -> tuple[Candidates, Floats, Floats]:
        seen = [VIEWS[views[view]](look(row)) for row, view in zip(some.first.tolist(), some.view, strict=True)]
        other = [look(row) for row in some.second.tolist()]
        return some, *_aligned(_planes(seen), _planes(other), some.edges)

    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, total, _THREADS * _AT_ONCE):
            stop = min(start + _THREADS * _AT_ONCE, total)
            ends = zip(proposed.first[start:stop].tolist(), proposed.second[start:stop].tolist(), strict=True)
            rows = np.array([at for at, pair in enumerate(ends, start) if not same.connected(*pair)], np.int64)
            shares = [proposed.select(share) for share in np.array_split(rows, _THREADS) if len(share)]
            for some, edges, difference in pool.map(fitted, shares):
                for at in np.flatnonzero(difference <= _ALLOWED):
                    cropped = "cropped" if np.abs(edges[at]).max() > _CROPPED else "same picture"
                    first, second = sorted((int(some.first[at]), int(some.second[at])))
                    same.merge(first, second)
                    yield Copy(first, second, views[some.view[at]] or cropped)
            tick(stop, total)


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX))


def _planes(pictures: Sequence[NDArray[np.uint8]]) -> Floats:
    """n pictures (S, S, 3) → (n, 3, S, S)."""
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2), np.float32)


def _aligned(inner: Floats, outer: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """Fit the edges (n, 4) by which `inner` lies within `outer`, both (n, 3, S, S); and what differs then (n,)."""
    small_inner, small_outer = _halved(inner), _halved(outer)
    edges = edges.clip(-_FARTHEST, _FARTHEST)
    for blur, steps in _STEPS:
        target, source = _blurred(small_inner, blur), _blurred(small_outer, blur)
        for _ in range(steps):
            edges = (edges + _step(target, source, edges).clip(-0.03, 0.03)).clip(-_FARTHEST, _FARTHEST)
    return edges, _difference(inner, outer, edges)


def _halved(pictures: Floats) -> Floats:
    rows = pictures[..., ::2, :] + pictures[..., 1::2, :]
    return np.asarray((rows[..., ::2] + rows[..., 1::2]) / 4, np.float32)


def _blurred(pictures: Floats, blur: float) -> Floats:
    if blur == 0:
        return pictures
    matrix = _gaussian(pictures.shape[-1], blur)  # a product is quicker than a filter
    return np.asarray(matrix @ pictures @ matrix.T, np.float32)


@cache
def _gaussian(side: int, blur: float) -> Floats:
    """(S, S) the matrix of a Gaussian filter."""
    return gaussian_filter1d(np.eye(side), blur, axis=0, mode="nearest").astype(np.float32)


def _step(target: Floats, source: Floats, edges: Floats) -> Floats:
    """(n, 4) the Gauss-Newton step: crop(source, edges + step) ≈ target to first order."""
    cropped, known = _crop(source, edges)
    side = source.shape[-1]
    left, right, top, bottom = edges.T[..., None, None, None]
    across = np.gradient(cropped, axis=3) * (side / (1 - left - right) * known)
    down = np.gradient(cropped, axis=2) * (side / (1 - top - bottom) * known)
    rest = (target - cropped) * known
    # the slopes by the edges are across · (1 − x), −across · x, down · (1 − y), −down · y: x and y can wait for sums
    ends = np.stack([1 - _places(side), -_places(side)], axis=1)
    products = (ends[:, :, None] * ends[:, None, :]).reshape(side, 4)
    normal = np.empty((len(edges), 4, 4), np.float32)
    normal[:, :2, :2] = (_over_colours(across, across).sum(1) @ products).reshape(-1, 2, 2)
    normal[:, 2:, 2:] = (_over_colours(down, down).sum(2) @ products).reshape(-1, 2, 2)
    normal[:, 2:, :2] = ends.T @ _over_colours(down, across) @ ends
    normal[:, :2, 2:] = normal[:, 2:, :2].swapaxes(1, 2)
    pull = np.concatenate([_over_colours(across, rest).sum(1) @ ends, _over_colours(down, rest).sum(2) @ ends], axis=1)
    ridge = 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] / 4 + 1.0
    return np.linalg.solve(normal + ridge * np.eye(4, dtype=np.float32), pull[..., None])[..., 0].astype(np.float32)


def _over_colours(first: Floats, second: Floats) -> Floats:
    """(n, S, S) the sums of products over colours."""
    return np.einsum("ncyx,ncyx->nyx", first, second)


def _crop(pictures: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """Crops (n, 3, S, S) by bilinear sampling, and where they lie within the pictures (n, 1, S, S)."""
    side = pictures.shape[-1]
    (across, within_x), (down, within_y) = _sampling(edges[:, :2], side), _sampling(edges[:, 2:], side)
    cropped = np.asarray(down[:, None] @ pictures @ across.swapaxes(1, 2)[:, None], np.float32)
    return cropped, (within_y[:, None, :, None] & within_x[:, None, None, :]).astype(np.float32)


def _places(side: int) -> Floats:
    """(S,) the centres of pixels, as shares of the side."""
    return (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)


def _sampling(ends: Floats, side: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Of one axis: the weights (n, S, S) of source pixels for each pixel of the crop; which of these exist (n, S)."""
    place = (ends[:, :1] + (1 - ends.sum(1, keepdims=True)) * _places(side)) * side - 0.5
    nearest = place.clip(0, side - 1)
    weights = np.maximum(0, 1 - np.abs(nearest[:, :, None] - np.arange(side, dtype=np.float32)))
    return weights, np.abs(place - nearest) < 1


def _difference(target: Floats, source: Floats, edges: Floats) -> Floats:
    """(n,) the root mean square difference in the _WORST-th block, relative to the contrast of `target`."""
    cropped, known = _crop(source, edges)
    # The difference is blurred, not the pictures: at the edge of a crop there is nothing to blur with.
    square = np.square(_blurred((target - cropped) * known, _SMOOTH)).mean(1) * known[:, 0]
    size = _SIDE // _BLOCKS
    shape = (len(edges), _BLOCKS, size, _BLOCKS, size)
    sums, counts = square.reshape(shape).sum((2, 4)), known.reshape(shape).sum((2, 4))
    blocks = np.where(counts >= size * size / 4, sums / np.maximum(counts, 1), 0).reshape(len(edges), -1)
    contrast = (target - target.mean((2, 3), keepdims=True)).std(axis=(1, 2, 3))
    return np.sqrt(np.partition(blocks, -_WORST, axis=1)[:, -_WORST]) / (contrast + NOISE)
