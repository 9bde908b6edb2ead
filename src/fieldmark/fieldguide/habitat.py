"""Where birds are seen: blurred backgrounds, what they stand on, and what stands in front of them.

Shapes of arrays: S the side of the picture in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fieldmark.fieldguide.colours import Colour, mix, scaled
from fieldmark.fieldguide.shapes import Points, spline

__all__ = ["HABITATS", "PAPER", "Habitat", "background", "cover"]

_SIDE = 72  # a background is drawn this small: it is out of focus


@dataclass(frozen=True)
class Habitat:
    """One kind of place."""

    far: tuple[str, str]
    """Colours at the top and above the horizon."""
    near: tuple[str, str]
    """Colours below the horizon and at the bottom."""
    clutter: str
    """What the background is full of: a key of `_CLUTTER`."""
    hues: tuple[str, ...]
    """The colours of the clutter."""
    perch: str
    """twig, ground, rock or post."""
    perch_colour: str
    cover: str
    """What may stand in front: blades, leaves, twigs or flakes."""
    cover_hues: tuple[str, ...]


HABITATS: MappingProxyType[str, Habitat] = MappingProxyType(
    {
        "reed": Habitat(("c9cfae", "b7b67c"), ("8f8f52", "6d6b3a"), "stems",
                        ("a39a55", "c2b878", "7c7a3f", "8f9a58"), "twig", "9a8a50", "blades", ("b0a55e", "8a8a48")),
        "forest": Habitat(("51683f", "3c5230"), ("34462a", "2a3821"), "bokeh",
                          ("6f8a4a", "8fa85e", "2f4426", "4c6438"), "twig", "5c4a38", "leaves", ("5f8a3a", "47702f")),
        "beach": Habitat(("a9c8d8", "cfe0e2"), ("d9c7a0", "c9b48a"), "bands",
                         ("8fb6c6", "e9eef0", "d2bd92", "bfa97e"), "ground", "b39d74", "blades", ("9aa36a", "b5ad78")),
        "snow": Habitat(("b9c7d6", "d5dde6"), ("e8edf2", "dfe6ee"), "bokeh",
                        ("f4f7fa", "a9b8c6", "8798a8", "ffffff"), "twig", "6a5c54", "flakes", ("ffffff", "eef3f8")),
        "dusk": Habitat(("4a4470", "d98a6a"), ("5a4050", "382c3c"), "peaks",
                        ("7a5068", "5a4258", "e0a070", "47384c"), "twig", "3c3036", "twigs", ("3a2e36", "4a3840")),
        "city": Habitat(("aebac4", "c3c8ca"), ("9a9894", "85827e"), "blocks",
                        ("8d6f62", "a8a29a", "6f7880", "c0b4a4", "5c646c"), "post", "7a7672", "twigs",
                        ("6c6864", "58544f")),
        "meadow": Habitat(("bcd8e6", "b5d09a"), ("8fb35a", "6f9440"), "bokeh",
                          ("e6d25a", "d98ab0", "f2f2ea", "9fc46a", "7aa04a"), "post", "8a7256", "blades",
                          ("7fa648", "5f8a38")),
        "lake": Habitat(("9db8c4", "7fa0b0"), ("56808f", "3f6676"), "bands",
                        ("88aebc", "4c7484", "a9c6ce", "37586a"), "rock", "77756e", "blades", ("6a8a4c", "557540")),
        "autumn": Habitat(("d9b070", "c98a48"), ("9a6034", "70482c"), "bokeh",
                          ("e0a030", "c8602c", "8a4026", "f0c860", "7a5a30"), "twig", "5a4434", "leaves",
                          ("d0752c", "b8502a")),
        "rocks": Habitat(("b4b2ac", "98958e"), ("86837c", "6e6b66"), "peaks",
                         ("a5a199", "78746d", "8d8880", "605d58"), "rock", "85817a", "blades", ("8f935c", "767a4a")),
        "garden": Habitat(("7fa070", "6a9058"), ("56803f", "486e36"), "bokeh",
                          ("d8506a", "e88ab0", "f0e0a0", "8ab060", "b070c0"), "twig", "6c563e", "leaves",
                          ("5c9444", "46783a")),
        "desert": Habitat(("a8c4dc", "e4d2b0"), ("d8a868", "c48a50"), "peaks",
                          ("d09860", "b87a4c", "e2bc84", "a06848"), "ground", "b98550", "twigs",
                          ("8a7050", "a08058")),
    }
)  # fmt: skip

PAPER = Habitat(("f6f1e4", "f6f1e4"), ("f6f1e4", "f6f1e4"), "bokeh", (), "twig", "8a7660", "twigs", ())


def colour_of(code: str) -> Colour:
    """ "ff8000" → (255, 128, 0)."""
    red, green, blue = bytes.fromhex(code)
    return (float(red), float(green), float(blue))


def _ink(colour: Colour) -> tuple[int, int, int]:
    return (round(min(colour[0], 255)), round(min(colour[1], 255)), round(min(colour[2], 255)))


def background(habitat: Habitat, seed: int, side: int) -> Image.Image:
    """A picture of the place without the bird, out of focus: RGB, `side` pixels square."""
    rng = np.random.default_rng(seed)
    horizon = rng.uniform(0.45, 0.8)
    tone = rng.uniform(0.88, 1.08)
    rows = np.linspace(0, 1, _SIDE)
    knots = [0, horizon - 0.04, horizon + 0.04, 1]
    stops = np.array([colour_of(code) for code in (*habitat.far, *habitat.near)]) * tone
    column = np.stack([np.interp(rows, knots, channel) for channel in stops.T], axis=1).clip(0, 255)
    picture = Image.fromarray(np.repeat(column[:, None], _SIDE, axis=1).astype(np.uint8))
    if habitat.hues:
        hues = [_ink(scaled(colour_of(code), tone * rng.uniform(0.85, 1.1))) for code in habitat.hues]
        _CLUTTER[habitat.clutter](ImageDraw.Draw(picture), rng, hues, horizon * _SIDE)
    blurred = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.9, 2.4)))
    return blurred.resize((side, side), Image.Resampling.BICUBIC)


_Hues = list[tuple[int, int, int]]
_Paint = Callable[[ImageDraw.ImageDraw, np.random.Generator, _Hues, float], None]


def _stems(pen: ImageDraw.ImageDraw, rng: np.random.Generator, hues: _Hues, horizon: float) -> None:
    for _ in range(int(rng.integers(18, 34))):
        x, lean, top = rng.uniform(-5, _SIDE + 5), rng.normal(0, 5), rng.uniform(-10, horizon)
        width = int(rng.integers(1, 4))
        pen.line([x, _SIDE, x + lean, top], fill=hues[int(rng.integers(len(hues)))], width=width)


def _bokeh(pen: ImageDraw.ImageDraw, rng: np.random.Generator, hues: _Hues, horizon: float) -> None:
    for _ in range(int(rng.integers(14, 30))):
        x, y, r = rng.uniform(0, _SIDE), rng.uniform(0, _SIDE), rng.uniform(1.5, 8)
        pen.ellipse([x - r, y - r, x + r, y + r], fill=hues[int(rng.integers(len(hues)))])


def _bands(pen: ImageDraw.ImageDraw, rng: np.random.Generator, hues: _Hues, horizon: float) -> None:
    for _ in range(int(rng.integers(8, 16))):
        below = rng.random() < 0.6
        y = rng.uniform(horizon, _SIDE) if below else rng.uniform(horizon * 0.6, horizon)
        x, width = rng.uniform(-20, _SIDE), rng.uniform(20, 70)
        hue = hues[int(rng.integers(2, len(hues)) if below else rng.integers(2))]
        pen.ellipse([x, y, x + width, y + rng.uniform(1, 4)], fill=hue)


def _peaks(pen: ImageDraw.ImageDraw, rng: np.random.Generator, hues: _Hues, horizon: float) -> None:
    for _ in range(int(rng.integers(5, 10))):
        x, height, width = rng.uniform(0, _SIDE), rng.uniform(5, 26), rng.uniform(12, 34)
        foot = rng.uniform(horizon, _SIDE)
        corners = [x - width, foot, x - width * 0.3, foot - height * 0.7, x, foot - height, x + width * 0.8, foot]
        pen.polygon(corners, fill=hues[int(rng.integers(len(hues)))])


def _blocks(pen: ImageDraw.ImageDraw, rng: np.random.Generator, hues: _Hues, horizon: float) -> None:
    for _ in range(int(rng.integers(6, 12))):
        x, top, width = rng.uniform(-8, _SIDE), rng.uniform(2, horizon), rng.uniform(7, 20)
        hue = hues[int(rng.integers(len(hues)))]
        pen.rectangle([x, top, x + width, horizon + 3], fill=hue)
        pane = tuple(int(channel * 0.65) for channel in hue)
        for left in np.arange(x + 2, x + width - 2, 4):
            for row in np.arange(top + 2, horizon - 2, 6):
                pen.rectangle([left, row, left + 1.5, row + 3], fill=pane)


_CLUTTER: dict[str, _Paint] = {
    "stems": _stems, "bokeh": _bokeh, "bands": _bands, "peaks": _peaks, "blocks": _blocks
}  # fmt: skip


def cover(habitat: Habitat, rng: np.random.Generator) -> tuple[Points, tuple[int, int, int]]:
    """The outline (N, 2), in shares of the picture, and the colour of one thing that stands in front of the bird."""
    codes = habitat.cover_hues
    colour = scaled(colour_of(codes[int(rng.integers(len(codes)))]), rng.uniform(0.75, 1.15))
    return _COVER[habitat.cover](rng), _ink(mix(colour, (40, 40, 40), 0.1))


def _blade(rng: np.random.Generator) -> Points:
    x, lean, top, half = rng.uniform(0, 1), rng.normal(0, 0.16), rng.uniform(0.15, 0.8), rng.uniform(0.009, 0.02)
    bend = x + lean * 0.3
    middle = (1.05 + top) / 2
    corners = [(x - half, 1.05), (bend - half, middle), (x + lean, top), (bend + half, middle), (x + half, 1.05)]
    return spline(corners, samples=5)


def _leaf(rng: np.random.Generator) -> Points:
    x, y, angle, length = rng.uniform(0, 1), rng.uniform(0.05, 1), rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.11)
    shape = np.array([(-1, 0), (-0.4, -0.36), (0.3, -0.34), (1.1, 0), (0.3, 0.34), (-0.4, 0.36)]) * length
    cos, sin = np.cos(angle), np.sin(angle)
    return spline(shape @ np.array([[cos, sin], [-sin, cos]]) + (x, y), samples=4)


def _twig(rng: np.random.Generator) -> Points:
    start, end = rng.uniform(-0.1, 1.1, size=2), rng.uniform(-0.1, 1.1, size=2)
    left, right, half = (-0.05, start[0]), (1.05, end[0]), rng.uniform(0.008, 0.016)
    middle = (rng.uniform(0.3, 0.7), (left[1] + right[1]) / 2 + rng.normal(0, 0.05))
    line = spline([left, middle, right], closed=False, samples=8)
    half_up = np.array([0, half])
    return np.concatenate([line - half_up, (line + half_up)[::-1]])


def _flake(rng: np.random.Generator) -> Points:
    x, y, r = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.012, 0.035)
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return np.stack([x + r * np.cos(angle), y + r * np.sin(angle)], axis=1)


_COVER: dict[str, Callable[[np.random.Generator], Points]] = {
    "blades": _blade, "leaves": _leaf, "twigs": _twig, "flakes": _flake
}  # fmt: skip
