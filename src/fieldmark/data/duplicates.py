"""`near_duplicates`: which images of a collection show the same picture, in less than quadratic time.

An image's fingerprint is a hash of its file and a thumbnail of 16 × 16 pixels. Two images are the same picture when
their hashes agree or their thumbnails nearly do. A thumbnail t is compared as the vector

    v = [ (t − m − c) / (σ + 4) ,  m / 60 ]

where m is its mean colour, c the collection's mean thumbnail and σ the contrast that is left. So

- faint pictures (sky, snow) are compared by what little there is in them, down to the 4 grey levels of noise;
- pictures without any structure (a night, a covered lens), whose contrast is below that noise, are not compared: such
  pictures are copies only if their files are equal;
- in collections with one composition (specimens on a tray, fundus photographs) what all of them share does not make
  them alike.

‖v − w‖ ≤ 0.22 decides. In CUB-200 and Flowers-102 JPEG at quality 60 moves v by at most 0.07, halving the size too by
at most 0.15; on the 32-pixel images of CIFAR-10 quality 60 alone moves 99 % by at most 0.20. Every pair that is found
in the three was looked at: the same picture, or the same subject a moment later.

Candidates come from a k-d tree over the lowest cosine frequencies of v. These are coordinates of v in an orthonormal
basis, so distances can only shrink: no pair within the radius is missed.

Shapes: N images, M pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from fieldmark.core.machine import num_threads

__all__ = [
    "COLOUR",
    "NOISE",
    "PRIOR",
    "SIDE",
    "VERSION",
    "Fingerprints",
    "are_flat",
    "clusters",
    "connected",
    "digest",
    "fingerprint",
    "near_duplicates",
]

VERSION: Final = 1
"""Raised whenever the same picture would get another fingerprint, or the same fingerprints other pairs."""

SIDE: Final = 16
"""Side of a thumbnail."""

NOISE = 4.0
COLOUR = 60.0
"""Of v, above: grey levels of noise, and the levels of mean colour that weigh as much as all contrast."""
_RADIUS = 0.22
_NEAREST = 32
"""Neighbours looked at per image: enough to join what belongs together."""
PRIOR = 50
"""The mean thumbnail counts this many blank ones, or two images alone would share all there is in them."""
_LEADERS = 256
_CROWD = 8
"""With so many followers a leader stands for them."""
_CHUNK = 512
"""Images compared at once: with 32 neighbours each they take some 100 MB."""


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """The fingerprints of N images."""

    digests: NDArray[np.uint64]
    """(N,) the first eight bytes of the SHA-256 of the file."""
    thumbnails: NDArray[np.uint8]
    """(N, SIDE, SIDE, 3)"""

    def __post_init__(self) -> None:
        assert self.thumbnails.shape == (len(self.digests), SIDE, SIDE, 3)

    def __len__(self) -> int:
        return len(self.digests)

    def select(self, rows: NDArray[np.int64]) -> Self:
        """The fingerprints of these rows."""
        return type(self)(self.digests[rows], self.thumbnails[rows])

    def key(self) -> str:
        """By which these fingerprints, in this order, are known."""
        found = hashlib.sha256(f"{VERSION}".encode())
        for values in (self.digests, self.thumbnails):
            found.update(np.ascontiguousarray(values).data)
        return found.hexdigest()[:16]


def digest(data: bytes) -> np.uint64:
    """By which a file's bytes are known: the first eight of their SHA-256."""
    return np.frombuffer(hashlib.sha256(data).digest()[:8], np.dtype("<u8"))[0]


def fingerprint(data: bytes, pixels: NDArray[np.uint8]) -> tuple[np.uint64, NDArray[np.uint8]]:
    """Digest of a file's bytes and thumbnail (SIDE, SIDE, 3) of its pixels (H, W, 3)."""
    return digest(data), np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX))


def are_flat(thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(N,) whether there is so little structure in a thumbnail (N, SIDE, SIDE, 3) that any other might be its copy."""
    parts = [part.reshape(len(part), -1, 3).std(1).max(1) for part in _chunks(thumbnails)]
    return np.concatenate([np.empty(0), *parts]) < NOISE


def near_duplicates(
    fingerprints: Fingerprints, *, mirrored: bool = False, progress: Callable[[int, int], None] | None = None
) -> NDArray[np.int64]:
    """Pairs (M, 2) of rows that show the same picture: re-encoded, resized or, where asked, `mirrored` as well.

    In each pair the smaller row comes first; pairs are sorted. Where one picture occurs very often not all of its
    pairs are listed, but enough to connect them. `progress` gets (done, total) of the images compared.
    """
    if len(fingerprints) < 2:
        return np.empty((0, 2), np.int64)
    thumbnails = fingerprints.thumbnails
    whole = np.ascontiguousarray(thumbnails.reshape(len(thumbnails), -1)).view(f"V{thumbnails[0].nbytes}")[:, 0]
    shaped = np.flatnonzero(~are_flat(thumbnails))
    _, distinct = np.unique(whole[shaped], return_index=True)  # a tree of equal points would be searched one by one
    distinct = shaped[distinct]
    template = thumbnails.sum(0, dtype=np.float64) / (len(thumbnails) + PRIOR)
    found = [_equal(fingerprints.digests), shaped[_equal(whole[shaped])]]
    if len(distinct):
        found += [distinct[pairs] for pairs in _alike(thumbnails[distinct], template, mirrored, progress)]
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


def clusters(fingerprints: Fingerprints, *, progress: Callable[[int, int], None] | None = None) -> NDArray[np.int64]:
    """A number for each image (N,): equal for those that show the same picture, directly or through others."""
    return connected(near_duplicates(fingerprints, progress=progress), len(fingerprints))


def connected(pairs: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """A number for each of `number` images: equal for those that pairs (M, 2) connect, directly or through others."""
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(number, number))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _equal(values: NDArray[Any]) -> NDArray[np.int64]:
    """Rows with equal values, each with the next such row."""
    order = np.argsort(values, kind="stable")
    same = np.flatnonzero(values[order[1:]] == values[order[:-1]])
    return np.stack([order[same], order[same + 1]], axis=1)


def _alike(
    thumbnails: NDArray[np.uint8],
    template: NDArray[np.float64],
    mirrored: bool,
    progress: Callable[[int, int], None] | None,
) -> Iterator[NDArray[np.int64]]:
    """Pairs of rows within the radius, a chunk at a time."""
    low = np.concatenate([_low(_vectors(part, template)) for part in _chunks(thumbnails)])
    leaders = _crowds(thumbnails, template, low)
    followers = np.flatnonzero(leaders >= 0)
    yield np.stack([followers, leaders[followers]], axis=1)
    searched = np.flatnonzero(leaders < 0)
    tree = cKDTree(low[searched])
    views = [thumbnails, thumbnails[:, :, ::-1]] if mirrored else [thumbnails]
    for number, view in enumerate(views):
        for rows in _chunks(np.arange(len(view))):
            asked = _low(_vectors(view[rows], template)) if number else low[rows]
            distances, nearest = tree.query(asked, _NEAREST, distance_upper_bound=_RADIUS, workers=num_threads())
            place, nth = np.nonzero(np.isfinite(distances))
            first, second = rows[place], searched[nearest[place, nth]]
            first, second = first[first != second], second[first != second]
            near = _distances(view[first], thumbnails[second], template) <= _RADIUS
            if progress:
                progress(number * len(view) + int(rows[-1]) + 1, len(views) * len(view))
            yield np.stack([first[near], second[near]], axis=1)


def _crowds(
    thumbnails: NDArray[np.uint8], template: NDArray[np.float64], low: NDArray[np.float32]
) -> NDArray[np.int64]:
    """(N,) the row of the leader that an image follows, −1 for most.

    Some rows are drawn as leaders. What lies within the radius of one follows it and need not be searched for,
    since whoever looks finds the leader: without this, thousands of frames of one empty scene, all within each other's
    radius, would each be compared with all.
    """
    drawn = np.random.default_rng(0).permutation(len(low))[:_LEADERS]
    distances, nearest = cKDTree(low[drawn]).query(low, distance_upper_bound=_RADIUS)
    rows = np.setdiff1d(np.flatnonzero(np.isfinite(distances)), drawn)
    leaders = np.full(len(low), -1)
    for part in _chunks(rows):
        chosen = drawn[nearest[part]]
        near = _distances(thumbnails[part], thumbnails[chosen], template) <= _RADIUS
        leaders[part[near]] = chosen[near]
    followers = np.bincount(leaders[leaders >= 0], minlength=len(low))
    return np.where((leaders >= 0) & (followers[leaders] >= _CROWD), leaders, -1)


def _chunks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]


def _distances(
    first: NDArray[np.uint8], second: NDArray[np.uint8], template: NDArray[np.float64]
) -> NDArray[np.float32]:
    """‖v − w‖ (n,) of thumbnails (n, SIDE, SIDE, 3) one by one."""
    return np.linalg.norm(_vectors(first, template) - _vectors(second, template), axis=1)


def _vectors(thumbnails: NDArray[np.uint8], template: NDArray[np.float64]) -> NDArray[np.float32]:
    """(n, SIDE, SIDE, 3) → (n, SIDE² · 3 + 3), as the module's text defines it."""
    pictures = thumbnails.astype(np.float32)
    means = pictures.mean((1, 2))
    rest = pictures - template.astype(np.float32)
    rest -= rest.mean((1, 2), keepdims=True)
    contrast = np.sqrt(np.square(rest).mean((1, 2, 3), keepdims=True))
    rest /= (contrast + NOISE) * np.sqrt(np.float32(SIDE * SIDE * 3))
    return np.concatenate([rest.reshape(-1, SIDE * SIDE * 3), means / COLOUR], axis=1)


def _low(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, SIDE² · 3 + 3) → (n, 18): 15 frequencies of the brightness and the mean colour."""
    red, green, blue = np.moveaxis(vectors[:, :-3].reshape(-1, SIDE, SIDE, 3), -1, 0)
    brightness = (red + green + blue) / np.sqrt(np.float32(3))
    frequencies = dctn(brightness, axes=(1, 2), norm="ortho")[:, :4, :4].reshape(-1, 16)[:, 1:]
    return np.concatenate([frequencies, vectors[:, -3:]], axis=1)
