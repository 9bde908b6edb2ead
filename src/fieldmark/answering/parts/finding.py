"""`Parts`: the parts that a method has discovered, located in photographs.

Shapes: N images, M parts, S the side of the view in pixels, maps of h × w cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.engine import PartEngine
from fieldmark.answering.parts.centres import frames_to_pixels, object_sizes
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import stream
from fieldmark.answering.things import Thing
from fieldmark.core.errors import DataError, RunError
from fieldmark.core.listener import Listener
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import Catalog
from fieldmark.evaluation.part_names import Match, match_parts
from fieldmark.runs.bundle import Bundle

__all__ = ["Parts", "Sight", "find_parts", "sights"]


@final
@dataclass(frozen=True, repr=False)
class Parts:
    """The discovered parts in some images."""

    names: tuple[str, ...]
    """The names of the M parts."""
    catalog: Catalog
    """The images that could be read, with the parts' centres as their key points."""
    matches: tuple[Match, ...] = ()
    """How far parts are from the key points that they are named for, or match best, if the data has any."""
    num_measured: int = 0
    """The number of images that this was measured on: held-out images, if there are any."""
    table: Path | None = field(default=None, compare=False)
    page: Path | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        parts, images = counted(len(self.names), "part"), counted(len(self.catalog), "image")
        return f"Parts({parts} in {images}: {', '.join(self.names)})"


class Sight(NamedTuple):
    """The parts that a method sees in one photograph."""

    row: int
    """Of the catalogue."""
    pixels: NDArray[np.uint8]
    """(S, S, 3) the view."""
    maps: NDArray[np.float32]
    """(M + 1, h, w), the background last, or (M, h, w) where the method has none."""
    centres: NDArray[np.float32]
    """(M, 3) x, y, visible, in shares of the view."""


def find_parts(predictor: Predictor, catalog: Catalog, rows: NDArray[np.int64], listener: Listener) -> Parts:
    """Find the parts in these rows of the catalogue, and how far they are from its key points.

    Raises RunError for a method without part maps, and DataError if no image can be read.
    """
    bundle = predictor.bundle
    if not bundle.parts:
        raise RunError(
            f"The method {bundle.recipe.method.name!r} of this run does not find parts",
            "Train with a method that does, such as --recipe part_discovery.",
        )
    kept, centres, frames = _centres(predictor, catalog, rows, listener)
    annotated = catalog.select(kept)
    measured = _not_learnt_from(annotated)
    matches = _matches(bundle, annotated, centres, frames, measured)
    found = replace(annotated, keypoint_names=bundle.parts, keypoints=centres)
    return Parts(bundle.parts, found, matches, len(measured) if matches else 0)


def sights(predictor: Predictor, catalog: Catalog, rows: NDArray[np.int64]) -> list[Sight]:
    """The parts that the method sees in each of these rows."""
    found: list[Sight] = []
    for answered in stream(_things(catalog, rows), predictor.see, PartEngine(predictor.model)):
        assert answered.output is not None
        for number, shown in enumerate(answered.shown):
            pixels = shown.view.permute(1, 2, 0).numpy()
            row = int(rows[len(found)])
            found.append(Sight(row, pixels, answered.output.maps[number], answered.output.centres[number]))
    return found


def _things(catalog: Catalog, rows: NDArray[np.int64]) -> list[Thing]:
    return [Thing(catalog.paths[row], catalog.file(int(row))) for row in rows]


def _centres(
    predictor: Predictor, catalog: Catalog, rows: NDArray[np.int64], listener: Listener
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]:
    """The rows that can be read, their centres (N, M, 3) in pixels of the pictures, and the pictures' sizes (N, 2)."""
    centres: list[NDArray[np.float32]] = []
    sizes: list[tuple[int, int]] = []
    readable: list[bool] = []
    unreadable: list[str] = []
    with listener.progress("Looking for parts") as tick:
        for answered in stream(_things(catalog, rows), predictor.see, PartEngine(predictor.model)):
            centres += [] if answered.output is None else [answered.output.centres]
            sizes += [shown.size for shown in answered.shown]
            readable += [error is None for error in answered.errors]
            unreadable += [thing.name for thing, _ in answered.skipped]
            tick(len(readable), len(rows))
    if unreadable:
        names = first_few(unreadable)
        listener.warn(
            f"{len(unreadable):,} of {counted(len(rows), 'image')} could not be read and were skipped: {names}"
        )
    if not centres:
        raise DataError(
            f"None of {counted(len(rows), 'image')} could be read",
            f"Check the files, such as {catalog.file(int(rows[0]))}.",
        )
    frames = np.array(sizes, np.float64)
    return rows[np.array(readable)], frames_to_pixels(np.concatenate(centres), frames, predictor.bundle.images), frames


def _not_learnt_from(catalog: Catalog) -> NDArray[np.int64]:
    """The rows outside the training split, or all rows if there is no other split."""
    others = np.flatnonzero(catalog.splits != "train")
    return others if len(others) else np.arange(len(catalog))


def _matches(
    bundle: Bundle,
    catalog: Catalog,
    centres: NDArray[np.float32],
    frames: NDArray[np.float64],
    rows: NDArray[np.int64],
) -> tuple[Match, ...]:
    """Distances to the key points that parts are called after; where they are called otherwise, to the best match."""
    if catalog.keypoints is None:
        return ()
    names = catalog.keypoint_names
    called = [(part, names.index(name)) for part, name in enumerate(bundle.parts) if name in names]
    return tuple(
        match_parts(
            centres[rows],
            catalog.keypoints[rows],
            names,
            object_sizes(catalog, rows, frames[rows]),
            frames[rows],
            pairs=called or None,
        )
    )
