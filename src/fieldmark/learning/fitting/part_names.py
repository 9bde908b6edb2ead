"""Names for a method's parts, from the key points that they coincide with in training images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.engine import PartEngine
from fieldmark.answering.parts.centres import frames_to_pixels, object_sizes
from fieldmark.answering.stream import stream
from fieldmark.core.wording import counted
from fieldmark.evaluation.part_names import match_parts, names_of, numbered
from fieldmark.learning.fitting.fit import Fit
from fieldmark.model.model import Model

__all__ = ["name_parts"]

_MOST_IMAGES = 1000
"""Enough for a mean distance, and seconds of work."""


def name_parts(fit: Fit, model: Model, rows: NDArray[np.int64]) -> tuple[str, ...]:
    """The names of the method's M parts: those of key points that they coincide with in training images, or numbers.

    The result is () for a method without part maps.
    """
    catalog, images = fit.data.catalog, fit.recipe.images
    points = catalog.keypoints
    if points is not None:
        rows = rows[(points[rows, :, 2] > 0).any(axis=1)] if (points[rows, :, 2] > 0).any() else rows
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST_IMAGES if points is not None else 1)).astype(int)]
    seen = []
    for answered in stream(chosen.tolist(), fit.see(model), PartEngine(model)):
        if answered.output is None:
            return ()
        seen.append(answered.output.centres)
    centres = np.concatenate(seen)
    if points is None:
        return numbered(centres.shape[1])
    frames = np.array([fit.data.pixels[int(row)].size for row in chosen], np.float64)
    matches = match_parts(
        frames_to_pixels(centres, frames, images),
        points[chosen],
        catalog.keypoint_names,
        object_sizes(catalog, chosen, frames),
        frames,
    )
    names = names_of(centres.shape[1], matches)
    told = [match.keypoint for match in matches if match.tells]
    if told:
        fit.listener.note(f"{len(told)} of {counted(len(names), 'part')} coincide with key points: {', '.join(told)}")
    else:
        fit.listener.note("No part coincides with a key point")
    return names
