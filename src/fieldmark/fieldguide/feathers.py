"""What one bird has upon its species' plumage: the new feathers of a moult, and a pattern that is its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fieldmark.fieldguide.anatomy import Anatomy
from fieldmark.fieldguide.canvas import Canvas
from fieldmark.fieldguide.colours import Colour, mix
from fieldmark.fieldguide.marks import FIRST_MARK, mark_id
from fieldmark.fieldguide.scene import Scene
from fieldmark.fieldguide.shapes import Points, spline

__all__ = ["paint_moult", "paint_pattern"]

_DARK, _PALE = (58.0, 42.0, 36.0), (250.0, 240.0, 214.0)
_FEATHER = np.array([(0.6, -0.5), (-0.2, -1.0), (-1.0, 0.0), (-0.2, 1.0), (0.6, 0.5), (1.0, 0.0)])
_SPOT = np.array([(1.0, 0.0), (0.7, 0.7), (0.0, 1.0), (-0.7, 0.7), (-1.0, 0.0), (-0.7, -0.7), (0.0, -1.0), (0.7, -0.7)])
_NUM_SPOTS = 6


def _grid(along: tuple[float, float, int], across: tuple[float, float, int]) -> Points:
    rows, columns = np.meshgrid(np.linspace(*along), np.linspace(*across), indexing="ij")
    return np.stack([rows.ravel(), columns.ravel()], axis=1)


_BREAST = _grid((0.24, 0.74, 8), (0.42, 0.84, 3))
_COVERTS = _grid((0.1, 0.62, 5), (-0.62, 0.62, 4))


def paint_moult(canvas: Canvas, bird: Anatomy, colours: Mapping[str, Colour], scene: Scene, part: str) -> None:
    """The new feathers on body or wing, of a colour that stands out from the old ones; none where nothing moults."""
    if not scene.new_feathers:
        return
    places = np.concatenate([_BREAST, _COVERTS])
    rng = np.random.default_rng([scene.seeds[2], 1])
    chosen = rng.permutation(len(places))[: scene.new_feathers]
    shifts = rng.normal(0, 1, (len(places), 2)) * (0.012, 0.04)
    sizes = rng.uniform(0.85, 1.15, len(places))
    strip, half, old = (
        (bird.body, (0.036, 0.12), colours["belly"]) if part == "body" else (bird.wing, (0.055, 0.17), colours["wing"])
    )
    for site in sorted(int(site) for site in chosen):
        if (site < len(_BREAST)) == (part == "body"):
            outline = spline(places[site] + shifts[site] + _FEATHER * half * sizes[site], samples=3)
            canvas.stamp(strip.place(outline), _against(old), FIRST_MARK + mark_id(f"moult on {part}"))


def paint_pattern(canvas: Canvas, bird: Anatomy, colours: Mapping[str, Colour], scene: Scene) -> None:
    """The spots of breast and flank by which one individual is told from another; the same on both sides."""
    if scene.pattern is None:
        return
    rng = np.random.default_rng(scene.pattern)
    sites: NDArray[np.int64] = rng.permutation(len(_BREAST))[:_NUM_SPOTS]
    for site in sites:
        size = rng.uniform(0.75, 1.35)
        centre = _BREAST[site] + rng.normal(0, 1, 2) * (0.012, 0.03)
        outline = spline(centre + _SPOT * np.array([0.042, 0.145]) * size, samples=3)
        canvas.stamp(bird.body.place(outline), _against(colours["belly"]), FIRST_MARK + mark_id("personal pattern"))


def _against(old: Colour) -> Colour:
    """Dark upon pale plumage, pale upon dark."""
    brightness = 0.3 * old[0] + 0.59 * old[1] + 0.11 * old[2]
    return mix(_DARK, old, 0.15) if brightness > 130 else mix(_PALE, old, 0.1)
