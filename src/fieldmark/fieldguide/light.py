"""Light: it rounds the bird, casts the wing's shadow, and tints the picture.

Shapes: S the side of the picture in pixels. Colours are float32 in 0…255.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from fieldmark.fieldguide.scene import Scene

__all__ = ["expose", "relief"]

_Plane = NDArray[np.float32]
_COARSE, _FINE = 80, 160
"""Light is reckoned on grids of this size, whatever the size of the picture."""


def _blurred(plane: _Plane, grid: int, radius: float) -> _Plane:
    """On a grid of `grid` × `grid` points; `radius` is a share of the picture."""
    image = Image.fromarray((plane * 255).astype(np.uint8))
    if image.width != grid:
        image = image.resize((grid, grid), Image.Resampling.BOX)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius * grid)), dtype=np.float32) / np.float32(255)


def _enlarged(plane: _Plane, side: int) -> _Plane:
    if len(plane) == side:
        return plane
    return np.asarray(Image.fromarray(plane).resize((side, side), Image.Resampling.BICUBIC))


def _facing(height: _Plane, scene: Scene) -> _Plane:
    """How much a surface of this height faces the light: about -1 … 1."""
    down, across = np.gradient(height)
    slope: _Plane = (down * np.cos(scene.azimuth) - across * np.sin(scene.azimuth)) * len(height)
    return slope


def relief(covered: _Plane, wing: _Plane, scene: Scene) -> NDArray[np.float32]:
    """By how much the light multiplies each colour of the bird (S, S, 3), from its outline alone.

    The outline, blurred, serves as a height: round in the middle, falling off at the edge. `wing` is 1 on the wing.
    """
    side = len(covered)
    round_ = _facing(_blurred(covered, _COARSE, 0.055), scene) * 0.13
    edge = _facing(_blurred(covered, _FINE, 0.016), scene) * 0.03
    raised = _facing(_blurred(wing, _FINE, 0.012), scene) * 0.022
    fall = np.roll(_blurred(wing, _COARSE, 0.018), round(0.02 * _COARSE), axis=0)
    shadow = np.clip(_enlarged(fall, side) - wing, 0, 1)
    facing = _enlarged(round_, side) + _enlarged(edge + raised, side)
    facing = np.clip(facing, -1, 1) * np.float32(0.25 + 0.3 * scene.hardness)
    warm = 1 + facing[..., None] * np.array([0.16, 0.0, -0.24], dtype=np.float32) * np.float32(scene.hardness)
    return np.clip((1 + facing - 0.3 * shadow)[..., None] * warm, 0.35, 1.5)


_SLACK = 64


@cache
def _grain(side: int) -> _Plane:
    return np.random.default_rng(7).standard_normal((side + _SLACK, side + _SLACK), dtype=np.float32)


def _film() -> NDArray[np.uint8]:
    """Value → what the film shows. Highlights are rolled off, so that a white mark in the sun keeps its edge."""
    value = np.arange(512, dtype=np.float64)
    return np.where(value > 200, 200 + 55 * np.tanh((value - 200) / 55), value).round().astype(np.uint8)


_FILM = _film()


def expose(picture: NDArray[np.float32], scene: Scene) -> NDArray[np.uint8]:
    """Brightness, warmth, fall-off to the corners and grain: (S, S, 3) in 0…255."""
    side = len(picture)
    down, across = np.random.default_rng(scene.seeds[3]).integers(_SLACK, size=2)
    tint = scene.brightness * np.array([1 + scene.warmth, 1 + 0.15 * scene.warmth, 1 - scene.warmth], dtype=np.float32)
    ramp = np.linspace(-1, 1, side, dtype=np.float32) ** 2
    corner = 1 - 0.06 * (ramp[:, None] + ramp) * (scene.noise > 0)
    grain = _grain(side)[down : down + side, across : across + side] * np.float32(scene.noise)
    exposed = picture * (tint.astype(np.float32) * corner[..., None].astype(np.float32)) + grain[..., None]
    return _FILM[np.clip(exposed + 0.5, 0, 511).astype(np.int16)]
