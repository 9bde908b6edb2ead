"""Key-point aware changes of training images: part swap, warp, alignment, in this order, before the random view.

All is drawn from the sample's own seed, which is that of (seed, epoch, row); the donor is one of the training images of
its class with at least three points in common. The number of workers changes nothing.

Shapes: N samples, P key points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.augment.align import aligned
from fieldmark.augment.image import mirror_permutation
from fieldmark.augment.similarity import FEWEST_POINTS, mean_pose, pose_of
from fieldmark.augment.swap import fitting_donors, mirror_image, swapped
from fieldmark.augment.warp import warped
from fieldmark.core.recipe import Augment
from fieldmark.core.seeds import Stream, generator
from fieldmark.data.catalog import Catalog
from fieldmark.data.loader import Marked

__all__ = ["PoseChanges"]

_CANDIDATES = 64
"""Of a large class so many images are looked at for a donor."""


@final
@dataclass(frozen=True, eq=False)
class PoseChanges:
    """A recipe's choices, bound to the training images that donors are taken from."""

    align: float
    warp: float
    swap: float
    """How probable each is."""
    flip: bool
    """Whether a donor's picture may be mirrored."""
    poses: NDArray[np.complex128]
    """(N, P) of all samples, in pixels of their originals; NaN where a point cannot be seen."""
    labels: NDArray[np.int64]
    """(N,)."""
    mates: tuple[NDArray[np.int64], ...]
    """The rows of each class that are learnt from."""
    canonical: NDArray[np.complex128] | None
    """(P,) `mean_pose` of these rows; None where none of them shows three points."""
    mirror: NDArray[np.int64]
    """(P,) `mirror_permutation`."""

    @classmethod
    def bind(
        cls, options: Augment, catalog: Catalog, sizes: NDArray[np.integer], rows: NDArray[np.int64], *, flip: bool
    ) -> Self:
        """For a catalogue with key points; `sizes` (N, 2) are the widths and heights of its originals."""
        assert catalog.keypoints is not None
        mirror = mirror_permutation(catalog.keypoint_names)
        poses = pose_of(catalog.keypoints, sizes)
        mates = tuple(rows[catalog.labels[rows] == label] for label in range(len(catalog.classes)))
        canonical = mean_pose(poses[rows], sizes[rows], mirror)
        return cls(options.align, options.warp, options.swap, flip, poses, catalog.labels, mates, canonical, mirror)

    def __call__(self, picture: Marked, row: int, seed: int, look: Callable[[int], Marked]) -> Marked:
        """`picture` of `row`, changed; `look` gives the picture of another row. Without a donor it is not changed."""
        rng = generator(Stream.POSE, seed)
        swap, warp, align = rng.random(3) < (self.swap, self.warp, self.align)
        mates = self.donors(row) if swap or warp else np.empty(0, np.int64)
        if len(mates) > _CANDIDATES:
            mates = rng.choice(mates, _CANDIDATES, replace=False)
        if swap and (found := self._matching(row, mates, rng)) is not None:
            donor, way = found
            other = look(donor)
            picture = swapped(picture, mirror_image(other, self.mirror) if way else other, rng)
        if warp and len(mates):
            picture = warped(picture, self.poses[rng.choice(mates)], self.mirror)
        if align and self.canonical is not None:
            picture = aligned(picture, self.canonical, self.mirror, rng)
        return picture

    def _matching(self, row: int, mates: NDArray[np.int64], rng: np.random.Generator) -> tuple[int, bool] | None:
        """One of the images `mates` that are near enough to lend a part, and whether it is mirrored for it."""
        fits, ways = fitting_donors(self.poses[row], self.poses[mates], self.mirror, flip=self.flip)
        near = np.flatnonzero(fits)
        if not len(near):
            return None
        chosen = int(rng.choice(near))
        return int(mates[chosen]), bool(ways[chosen])

    def donors(self, row: int) -> NDArray[np.int64]:
        """The other training images of its class that show three points that it shows, as they are or mirrored."""
        mates = self.mates[self.labels[row]]
        mates = mates[mates != row]
        shown = ~np.isnan(self.poses[row])
        theirs = ~np.isnan(self.poses[mates])
        common = np.maximum((theirs & shown).sum(1), (theirs[:, self.mirror] & shown).sum(1))
        return mates[common >= FEWEST_POINTS]

    def alone(self) -> NDArray[np.int64]:
        """The training images without a donor."""
        return np.array([row for rows in self.mates for row in rows if not len(self.donors(int(row)))], np.int64)

    def unposed(self) -> NDArray[np.int64]:
        """The training images that show fewer than three points."""
        rows = np.concatenate(self.mates)
        return np.sort(rows[(~np.isnan(self.poses[rows])).sum(1) < FEWEST_POINTS])
