"""`Canvas`: colours, cover and part numbers, painted together at a multiple of the picture's size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from fieldmark.fieldguide.colours import Colour
from fieldmark.fieldguide.shapes import Points

__all__ = ["FINER", "Canvas", "ink"]

FINER = 3
"""Painted pixels per picture pixel along each side; their mean is the picture."""
_ANY = [0] + [255] * 255


def ink(colour: Colour) -> tuple[int, int, int]:
    """A colour as Pillow takes it."""
    red, green, blue = (min(max(round(channel), 0), 255) for channel in colour)
    return (red, green, blue)


@dataclass(eq=False)
class Canvas:
    """`scale`, `shift` and `mirrored` take bird coordinates to painted pixels."""

    side: int
    scale: float
    shift: Points
    mirrored: bool
    colours: Image.Image = field(init=False)
    """RGB"""
    covered: Image.Image = field(init=False)
    """255 where something was painted."""
    numbers: Image.Image = field(init=False)
    """The number of the part that was painted last."""

    def __post_init__(self) -> None:
        size = (self.side * FINER, self.side * FINER)
        self.colours = Image.new("RGB", size)
        self.covered, self.numbers = Image.new("L", size), Image.new("L", size)
        self._pens = tuple(ImageDraw.Draw(image) for image in (self.colours, self.covered, self.numbers))

    def _dipped(self, colour: Colour, number: int) -> Iterator[tuple[ImageDraw.ImageDraw, Any]]:
        return zip(self._pens, (ink(colour), 255, number), strict=True)

    def place(self, values: Points) -> Points:
        """Bird coordinates → painted pixels."""
        placed = values * self.scale + self.shift
        if self.mirrored:
            placed[:, 0] = self.side * FINER - placed[:, 0]
        return placed

    def fill(self, outline: Points, colour: Colour, number: int) -> None:
        """A filled shape."""
        corners = self.place(outline).ravel().tolist()
        for pen, value in self._dipped(colour, number):
            pen.polygon(corners, fill=value)

    def stamp(self, outline: Points, colour: Colour | None, number: int) -> None:
        """A shape that stays within what is painted of the bird, so that a mark never changes the outline.

        Without a colour, only its number: the place of a mark that is not there.
        """
        corners = self.place(outline)
        left, top = (int(edge) for edge in np.floor(corners.min(axis=0)))
        right, bottom = (int(edge) + 1 for edge in np.ceil(corners.max(axis=0)))
        box = (left, top, right, bottom)
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).polygon((corners - (left, top)).ravel().tolist(), fill=255)
        mask = ImageChops.darker(mask, self.numbers.crop(box).point(_ANY))
        if colour is not None:
            self.colours.paste(ink(colour), box, mask)
        self.numbers.paste(number, box, mask)

    def line(self, path: Points, width: float, colour: Colour, number: int) -> None:
        """A line with round ends; width in bird coordinates."""
        wide = max(round(width * self.scale), 1)
        corners = self.place(path)
        for pen, value in self._dipped(colour, number):
            pen.line(corners.ravel().tolist(), fill=value, width=wide, joint="curve")
            for x, y in corners[[0, -1]]:
                pen.ellipse([x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2], fill=value)

    def strokes(self, paths: Points, width: float, colour: Colour) -> None:
        """Fine lines (L, N, 2) upon what is there: they leave its number."""
        wide = max(round(width * self.scale), 1)
        flat = self.place(paths.reshape(-1, 2)).reshape(len(paths), -1).tolist()
        for corners in flat:
            self._pens[0].line(corners, fill=ink(colour), width=wide)

    def cutout(self, *outlines: Points) -> Image.Image:
        """A mask of the union of these shapes."""
        mask = Image.new("L", self.colours.size)
        pen = ImageDraw.Draw(mask)
        for outline in outlines:
            pen.polygon(self.place(outline).ravel().tolist(), fill=255)
        return mask

    def paste(self, layer: Image.Image, mask: Image.Image, number: int) -> None:
        """A layer of any size, enlarged to the canvas, within a mask."""
        layer = layer.resize((self.side, self.side), Image.Resampling.BILINEAR)  # smooth to the picture's own pixels
        self.colours.paste(layer.resize(self.colours.size, Image.Resampling.NEAREST), mask=mask)
        self.covered.paste(255, mask=mask)
        self.numbers.paste(number, mask=mask)

    def finished(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
        """Colours (S, S, 3) in 0…255 times cover, cover (S, S) in 0…1, and part numbers (S, S)."""
        colours = np.asarray(self.colours.reduce(FINER), dtype=np.float32)
        covered = np.asarray(self.covered.reduce(FINER), dtype=np.float32) / np.float32(255)
        middle = FINER // 2
        return colours, covered, np.asarray(self.numbers)[middle::FINER, middle::FINER].copy()
