"""The same region in known images: where it is, and how similar it looks.

A region is described by the mean of its cells' features. In another image it is looked for wherever a window of its
shape fits, as it is and mirrored: the best place is its counterpart. So parts are compared with parts, in any pose.

Shapes: N images, P key points, C channels, h × w cells of the map that evidence is read from, h' × w' of the last map.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.answering.explaining.taps import Tap, last_map, read
from fieldmark.answering.stream import Shown, stream
from fieldmark.answering.things import Thing
from fieldmark.model.method import Method
from fieldmark.model.model import Model

__all__ = ["Counterpart", "Known", "counterparts", "known_maps", "place_of", "points_inside"]

_BATCH = 16
_NAMED_BY = 8
"""The number of nearest counterparts that decide which key points a region contains."""


@final
@dataclass(frozen=True, eq=False)
class Known:
    """Known images of one class, as the network sees them."""

    label: str
    paths: tuple[str, ...]
    """(N)"""
    maps: Tensor
    """(N, C, h, w) float16."""
    last: Tensor
    """(N, C', h', w') float16."""
    point_names: tuple[str, ...] = ()
    """(P) key points that are known of these images."""
    points: NDArray[np.float32] | None = None
    """(N, P, 2) x, y as shares of the picture; NaN where a point is not seen."""
    pictures: tuple[str, ...] = ()
    """(N) what a run calls them by their contents, "" where it does not know that."""


@final
@dataclass(frozen=True, eq=False)
class Counterpart:
    """A region found again in a known image."""

    path: str
    label: str
    likeness: float
    """The cosine of the two descriptions, from −1 to 1."""
    cells: NDArray[np.bool_]
    """(h, w) where it is."""
    features: Tensor
    """(C, n) of its cells, in the order of the region's."""


def known_maps(
    method: Method | Model,
    things: Iterable[Thing],
    see: Callable[[Thing], Shown],
    normalise: Callable[[NDArray[np.uint8]], Tensor],
    place: Tap,
    label: str,
) -> tuple[Known, list[Shown]]:
    """The maps at `place` of known images of a class, and what was seen of each; images that cannot be read are left
    out."""
    method.eval()
    end = last_map(method)

    @torch.no_grad()
    def maps_of(images: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        with read((place, end)) as found:
            method(normalise(images))
        return found[place].half().cpu(), found[end].half().cpu()

    answered = [one for one in stream(things, see, maps_of, batch_size=_BATCH) if one.output is not None]
    if not answered:
        return Known(label, (), torch.zeros(0), torch.zeros(0)), []
    maps, last = zip(*(one.output for one in answered if one.output), strict=True)
    paths = tuple(thing.name for one in answered for thing in one.readable)
    return Known(label, paths, torch.cat(maps), torch.cat(last)), [shown for one in answered for shown in one.shown]


def counterparts(
    maps: Tensor, last: Tensor, cells: NDArray[np.bool_], known: Known, *, besides: Collection[str] = ()
) -> list[Counterpart]:
    """The counterparts of a region in all known images, the most similar first; the images `besides` are left out.

    maps (C, h, w) and last (C', h', w') are those of the image that has the region.
    """
    chosen = [at for at, path in enumerate(known.paths) if path not in besides]
    if not chosen:
        return []
    own = _Described.of(maps[None], last[None])
    wanted = own.mean([cells])[0]
    theirs = _Described.of(known.maps[chosen].float(), known.last[chosen].float())
    rows, columns = np.nonzero(cells)
    window = cells[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    alike = theirs.alike(wanted)
    found = []
    for at, number in enumerate(chosen):
        row, column = _best_place(alike[at], window)
        there = np.zeros(cells.shape, bool)
        there[row, column] = True
        found.append((number, row, column, there))
    likeness = F.cosine_similarity(theirs.mean([there for *_, there in found]), wanted[None])
    counted = [
        Counterpart(known.paths[number], known.label, float(alike), there, known.maps[number].float()[:, row, column])
        for (number, row, column, there), alike in zip(found, likeness, strict=True)
    ]
    return sorted(counted, key=lambda one: -one.likeness)


def place_of(
    cells: NDArray[np.bool_], theirs: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns, in the order of a known image's region, of its counterpart here.

    Either image is given by its map (C, h, w) and its last map (C', h', w').
    """
    there, here = (_Described.of(maps[None], last[None]) for maps, last in (theirs, own))
    rows, columns = np.nonzero(cells)
    window = cells[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return _best_place(here.alike(there.mean([cells])[0])[0], window)


def points_inside(found: Sequence[Counterpart], known: Known) -> tuple[str, ...]:
    """The key points that lie in most of the nearest counterparts of a region, the most frequent first.

    Left and right are not distinguished: "left eye" and "right eye" are both "eye".
    """
    if known.points is None:
        return ()
    nearest = found[:_NAMED_BY]
    held: Counter[str] = Counter()
    for one in nearest:
        height, width = one.cells.shape
        places = known.points[known.paths.index(one.path)] * (width, height)
        inside = {
            name.removeprefix("left ").removeprefix("right ")
            for name, (x, y) in zip(known.point_names, places, strict=True)
            if 0 <= x < width and 0 <= y < height and one.cells[int(y), int(x)]
        }
        held.update(sorted(inside))
    return tuple(name for name, times in held.most_common() if 2 * times >= len(nearest))


@final
@dataclass(frozen=True, eq=False)
class _Described:
    """Each cell's features, both maps', either of unit length. The last map is enlarged only where it is asked of."""

    fine: Tensor
    """(N, C, h, w)"""
    last: Tensor
    """(N, C', h', w')"""

    @classmethod
    def of(cls, fine: Tensor, last: Tensor) -> _Described:
        return cls(F.normalize(fine, dim=1), F.normalize(last, dim=1))

    def alike(self, wanted: Tensor) -> Tensor:
        """(N, h, w) each cell's product with a description (C + C')."""
        one, other = wanted.split([self.fine.shape[1], self.last.shape[1]])
        coarse = torch.einsum("nchw,c->nhw", self.last, other)
        size = self.fine.shape[-2:]
        enlarged = F.interpolate(coarse[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
        return torch.einsum("nchw,c->nhw", self.fine, one) + enlarged

    def mean(self, cells: Sequence[NDArray[np.bool_]]) -> Tensor:
        """(N, C + C') the mean over these cells, (h, w) for each image."""
        inside = torch.from_numpy(np.stack(cells)).float()
        inside = inside / inside.sum((1, 2), keepdim=True)
        down, across = (_enlargement(self.last.shape[i], self.fine.shape[i]) for i in (2, 3))
        coarse = down.T @ inside @ across  # the mean of an enlarged map weighs the map's own cells so
        return torch.cat(
            [torch.einsum("nchw,nhw->nc", self.fine, inside), torch.einsum("nchw,nhw->nc", self.last, coarse)], dim=1
        )


def _enlargement(before: int, after: int) -> Tensor:
    """(after, before) what bilinear resizing does along one side."""
    rows = F.interpolate(torch.eye(before)[:, None], size=after, mode="linear", align_corners=False)
    return rows[:, 0].T


def _best_place(alike: Tensor, window: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the window, as it is or mirrored, where the mean of `alike` (h, w) is greatest."""
    shapes = torch.from_numpy(np.stack([window, window[:, ::-1]])).float()[:, None]
    scores = F.conv2d(alike[None, None], shapes)[0]
    mirrored, top, left = np.unravel_index(int(scores.argmax()), tuple(scores.shape))
    row, column = np.nonzero(window)
    return row + top, (window.shape[1] - 1 - column if mirrored else column) + left
