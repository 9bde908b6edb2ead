"""What a gallery keeps of a picture: the embedding of the whole, and a vector for each part that is seen.

Shapes: B images, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.engine import PartVectorEngine
from fieldmark.answering.parts.finding import check_parts
from fieldmark.answering.predictor import Predictor
from fieldmark.core.errors import RunError, nearest
from fieldmark.evaluation.outputs import unit
from fieldmark.gallery.store import Vectors

__all__ = ["WHOLE", "Embed", "check_part", "embedder", "widths"]

WHOLE = None
"""Stands for the whole picture where others are names of parts."""
Embed: TypeAlias = "Callable[[NDArray[np.uint8]], dict[str | None, Vectors]]"
"""(B, 3, S, S) → for the whole or a part, (B, D) of unit length, NaN where the part is not seen."""


def embedder(predictor: Predictor, spaces: Sequence[str | None]) -> Embed:
    """What embeds pictures as wholes, or by these parts."""
    names = predictor.bundle.parts
    parts = PartVectorEngine(predictor.model) if any(space is not WHOLE for space in spaces) else None

    def embed(images: NDArray[np.uint8]) -> dict[str | None, Vectors]:
        found: dict[str | None, Vectors] = {}
        vectors = None if parts is None else parts(images)
        for space in spaces:
            if space is WHOLE:
                found[space] = unit(predictor.engine(images).embedding)
            elif vectors is not None:
                found[space] = unit(vectors[:, names.index(space)])
        return found

    return embed


def widths(predictor: Predictor, embed: Embed) -> dict[str | None, int]:
    """D of each kind of vector."""
    side = predictor.bundle.images.size
    blank = np.zeros((1, 3, side, side), np.uint8)
    return {space: vectors.shape[1] for space, vectors in embed(blank).items()}


def check_part(predictor: Predictor, part: str) -> None:
    """Raise RunError for a part that the predictor's method does not have."""
    check_parts(predictor.bundle)
    if part not in predictor.bundle.parts:
        raise RunError(f"There is no part {part!r}", nearest(part, predictor.bundle.parts))
