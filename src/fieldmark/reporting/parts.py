"""A page that shows discovered parts, on photographs and one by one.

Shapes: S side of a view in pixels, M parts, maps of h × w cells.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from fieldmark.evaluation.part_names import Match
from fieldmark.pages import picture, render

__all__ = ["Example", "compose_parts"]

_SIDE, _CLOSE = 260, 110
"""The size in pixels of a photograph on the page, and of a close-up."""
_PHOTOGRAPHS, _CLOSE_UPS = 12, 8
_REACH = 0.15
"""Half the side of a close-up, in sides of the view."""
_TINT = 0.6
"""The opacity of a part's colour over the picture."""


@dataclass(frozen=True)
class Example:
    """A photograph and the parts that a method sees in it."""

    pixels: NDArray[np.uint8]
    """The view (S, S, 3)."""
    maps: NDArray[np.float32]
    """The part maps (M + 1, h, w) with the background last, or (M, h, w) if the method has no background."""
    centres: NDArray[np.float32]
    """The centres (M, 3): x and y in shares of the view, and whether the part is visible."""
    label: str
    path: str


@dataclass(frozen=True)
class _Dot:
    """The position of a part, x and y in per cent."""

    x: float
    y: float
    number: int
    colour: str
    name: str


@dataclass(frozen=True)
class _Part:
    """What the page shows of a part."""

    number: int
    name: str
    colour: str
    visible: float
    close_ups: list[tuple[Markup, str]]
    match: Match | None


def compose_parts(
    names: Sequence[str],
    examples: Sequence[Example],
    matches: Sequence[Match],
    *,
    visible: Sequence[float],
    num_images: int,
    num_measured: int,
    has_background: bool,
    title: str,
    unnamed: bool,
) -> str:
    """The page as HTML. `visible` is, for each part, the share of the images in which it is seen."""
    colours = [_colour(part, len(names)) for part in range(len(names))]
    dressed = [_hexadecimal(colour) for colour in colours]
    match_of = {match.part: match for match in matches}
    return render(
        "parts.html",
        title=title,
        num_images=num_images,
        num_measured=num_measured,
        has_background=has_background,
        unnamed=unnamed,
        parts=[
            _Part(m + 1, name, dressed[m], visible[m], _close_ups(examples, m), match_of.get(m))
            for m, name in enumerate(names)
        ],
        photographs=[
            (
                picture(example.pixels, side=_SIDE),
                picture(_tinted(example, colours, has_background), side=_SIDE),
                [
                    _Dot(100 * float(x), 100 * float(y), m + 1, dressed[m], names[m])
                    for m, (x, y, seen) in enumerate(example.centres)
                    if seen
                ],
                example,
            )
            for example in examples[:_PHOTOGRAPHS]
        ],
        matches=matches,
        names=names,
    )


def _colour(part: int, count: int) -> NDArray[np.float64]:
    """A colour (3,) from 0 to 255. Neighbours in the list are far apart in hue and alternate in lightness."""
    turn = (part * 0.618034) % 1 if count > 12 else (part * 5 % 12) / 12
    return 255 * np.array(colorsys.hls_to_rgb(turn, 0.46 if part % 2 else 0.56, 0.85))


def _hexadecimal(colour: NDArray[np.float64]) -> str:
    return "#" + "".join(f"{round(value):02x}" for value in colour)


def _tinted(example: Example, colours: Sequence[NDArray[np.float64]], has_background: bool) -> NDArray[np.uint8]:
    """The picture (S, S, 3), with parts in their colours and the rest in grey."""
    parts = example.maps[:-1] if has_background else _shares(example.maps)
    side = example.pixels.shape[0]
    shares = np.stack([_enlarged(one, side) for one in parts], axis=-1)  # (S, S, M)
    covered = shares.sum(axis=-1, keepdims=True).clip(0, 1)
    grey = example.pixels.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    plain = covered * example.pixels + (1 - covered) * grey
    tint = shares @ np.array(colours)
    mixed: NDArray[np.uint8] = (plain * (1 - _TINT * covered) + _TINT * tint).clip(0, 255).astype(np.uint8)
    return mixed


def _shares(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps of a method without a background, each scaled to its peak, with a sum of at most 1 in each cell."""
    maps = maps.clip(0, None)
    maps = maps / maps.max(axis=(1, 2), keepdims=True).clip(1e-12)
    shares: NDArray[np.float32] = maps / maps.sum(axis=0).clip(1, None)
    return shares


def _enlarged(cells: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """A map (h, w), enlarged to (side, side) by bilinear interpolation."""
    image = Image.fromarray(cells.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32)


def _close_ups(examples: Sequence[Example], part: int) -> list[tuple[Markup, str]]:
    """The surroundings of the part's centre in the first examples that show it."""
    showing = [example for example in examples if example.centres[part, 2] > 0]
    return [(picture(_cut(example, part), side=_CLOSE), example.label) for example in showing[:_CLOSE_UPS]]


def _cut(example: Example, part: int) -> NDArray[np.uint8]:
    """The square around the part's centre, moved inside the picture where it would cross its edge."""
    side = example.pixels.shape[0]
    half = max(1, round(_REACH * side))
    x, y = (int(np.clip(round(float(share) * side), half, side - half)) for share in example.centres[part, :2])
    return np.ascontiguousarray(example.pixels[y - half : y + half, x - half : x + half])
