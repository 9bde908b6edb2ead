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
from fieldmark.answering.rows import answer_rows, things_of
from fieldmark.answering.stream import stream
from fieldmark.core.errors import RunError
from fieldmark.core.listener import Listener
from fieldmark.core.wording import counted
from fieldmark.data.catalog import Catalog
from fieldmark.evaluation.part_names import Match, match_parts
from fieldmark.runs.bundle import Bundle

__all__ = ["Parts", "Sight", "check_parts", "find_parts", "sights"]


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


def check_parts(bundle: Bundle) -> None:
    """Raise RunError for a bundle whose method does not find parts."""
    if not bundle.parts:
        raise RunError(
            f"The method {bundle.recipe.method.name!r} of this run does not find parts",
            "Train with a method that does, such as --recipe part_discovery.",
        )


def find_parts(predictor: Predictor, catalog: Catalog, rows: NDArray[np.int64], listener: Listener) -> Parts:
    """Find the parts in these rows of the catalogue, and how far they are from its key points.

    Raises RunError for a method without part maps, and DataError if no image can be read.
    """
    bundle = predictor.bundle
    check_parts(bundle)
    seen = answer_rows(predictor, catalog, rows, PartEngine(predictor.model), listener, stage="Looking for parts")
    frames = np.array(seen.sizes, np.float64)
    centres = np.concatenate([sights.centres for sights in seen.outputs if sights])
    centres = frames_to_pixels(centres, frames, bundle.images)
    annotated = catalog.select(seen.rows)
    measured = _not_learnt_from(annotated)
    matches = _matches(bundle, annotated, centres, frames, measured)
    found = replace(annotated, keypoint_names=bundle.parts, keypoints=centres)
    return Parts(bundle.parts, found, matches, len(measured) if matches else 0)


def sights(predictor: Predictor, catalog: Catalog, rows: NDArray[np.int64]) -> list[Sight]:
    """The parts that the method sees in each of these rows."""
    found: list[Sight] = []
    for answered in stream(things_of(catalog, rows), predictor.see, PartEngine(predictor.model)):
        assert answered.output is not None
        for number, shown in enumerate(answered.shown):
            pixels = shown.pixels
            row = int(rows[len(found)])
            found.append(Sight(row, pixels, answered.output.maps[number], answered.output.centres[number]))
    return found


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
