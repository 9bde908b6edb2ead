"""Painting one bird: plumage, feathers, marks; light and surroundings come later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fieldmark.fieldguide.anatomy import Anatomy
from fieldmark.fieldguide.canvas import FINER, Canvas, ink
from fieldmark.fieldguide.colours import Colour, dull, mix, scaled, turn
from fieldmark.fieldguide.feathers import paint_moult, paint_pattern
from fieldmark.fieldguide.guide import Genus
from fieldmark.fieldguide.marks import EYE, EYE_RADIUS, FIRST_MARK, MARK_COLOURS, MARKS, mark_id
from fieldmark.fieldguide.scene import Scene
from fieldmark.fieldguide.shapes import Points, Strip, spline

__all__ = ["PARTS", "paint_bird"]

PARTS = ("", "tail", "legs", "body", "head", "beak", "wing", "eye")
"""A part's number is its place in this list."""

_DARK, _LIGHT = (20.0, 16.0, 14.0), (255.0, 252.0, 244.0)


@dataclass(frozen=True, eq=False)
class _Painter:
    canvas: Canvas
    bird: Anatomy
    genus: Genus
    colours: Mapping[str, Colour]
    marks: Mapping[str, Colour]
    rng: np.random.Generator


def paint_bird(canvas: Canvas, bird: Anatomy, genus: Genus, marks: Mapping[str, str], scene: Scene) -> None:
    """Paint `bird` with these marks, from the far side to the near one."""
    hue, dullness, value = scene.plumage
    female = scene.sex == "female"
    colours = {
        part: scaled(turn(dull(colour, dullness + 0.3 * female), hue), value) for part, colour in genus.colours.items()
    }
    shown = {
        mark: scaled(dull(MARK_COLOURS[colour][0], 0.1 * female), 0.5 + value / 2) for mark, colour in marks.items()
    }
    painter = _Painter(canvas, bird, genus, colours, shown, np.random.default_rng(scene.seeds[2]))
    _tail(painter)
    _legs(painter)
    _trunk(painter)
    paint_pattern(canvas, bird, colours, scene)
    paint_moult(canvas, bird, colours, scene, "body")
    _marks(painter, "body")
    _beak(painter)
    _marks(painter, "head")
    _wing(painter)
    paint_moult(canvas, bird, colours, scene, "wing")
    _marks(painter, "wing")
    _eye(painter)


def _number(painter: _Painter, part: str) -> int:
    """A whole part is numbered as a mark where the genus uses it as one."""
    return FIRST_MARK + mark_id(part) if part in painter.genus.places else PARTS.index(part)


def _marks(painter: _Painter, part: str) -> None:
    for place in painter.genus.places:
        if MARKS[place].part != part:
            continue
        painter.canvas.stamp(painter.bird.mark(place), painter.marks.get(place), FIRST_MARK + mark_id(place))


def _quills(strip: Strip, start: float, across: Points) -> Points:
    """Lines (L, 7, 2) along a strip, from `start` to its end, at these places across."""
    along = np.linspace(start, 0.985, 7)
    grid = np.stack([np.tile(along, (len(across), 1)), np.outer(across, np.ones(7))], axis=-1)
    return strip.place(grid.reshape(-1, 2)).reshape(len(across), 7, 2)


def _tail(painter: _Painter) -> None:
    canvas, tail, colour = painter.canvas, painter.bird.tail, painter.colours["tail"]
    canvas.fill(tail.outline(), colour, PARTS.index("tail"))
    canvas.strokes(_quills(tail, 0.05, np.linspace(-0.6, 0.6, 4)), 0.008, scaled(colour, 0.72))
    _marks(painter, "tail")


def _legs(painter: _Painter) -> None:
    colour = painter.marks.get("legs", painter.colours["legs"])
    for leg, tone in zip(painter.bird.legs, (0.82, 1.0), strict=True):
        for toe in leg.toes:
            painter.canvas.line(toe, leg.width * 0.8, scaled(colour, tone), _number(painter, "legs"))
        painter.canvas.line(leg.bones, leg.width, scaled(colour, tone), _number(painter, "legs"))


def _trunk(painter: _Painter) -> None:
    canvas, bird, colours = painter.canvas, painter.bird, painter.colours
    if bird.crest is not None:
        canvas.fill(bird.crest, scaled(colours["head"], 0.85), PARTS.index("head"))
    thighs = [
        bird.body.place(spline([(a - 0.08, 0.6), (a - 0.01, 1.22), (a + 0.08, 0.6), (a, 0.3)])) for a in (0.47, 0.4)
    ]
    trunk, head = [bird.body.outline(), *thighs], bird.head.circle()
    layer = _plumage(painter)
    canvas.paste(layer, canvas.cutout(*trunk, head), PARTS.index("body"))
    canvas.numbers.paste(PARTS.index("head"), mask=canvas.cutout(head))
    _down(painter)


def _plumage(painter: _Painter) -> Image.Image:
    """The colours of trunk and head, running softly into each other, at half the picture's size."""
    canvas, body, colours = painter.canvas, painter.bird.body, painter.colours
    layer = Image.new("RGB", (canvas.side // 2, canvas.side // 2), ink(colours["belly"]))
    pen = ImageDraw.Draw(layer)

    def soft(outline: Points, colour: Colour) -> None:
        pen.polygon((canvas.place(outline) / FINER / 2).ravel().tolist(), fill=ink(colour))

    soft(
        body.place([(-0.02, 0.55), (0.1, 0.1), (0.6, -0.05), (0.8, -0.05), (1, -0.1), (1, -2), (0, -2)]),
        colours["back"],
    )
    soft(body.place([(0.08, 0.62), (0.7, 0.72), (0.7, 2.0), (0.0, 2.0)]), scaled(colours["belly"], 1.1))
    soft(painter.bird.head.circle(radius=1.2), colours["head"])
    soft(painter.bird.head.circle((0.5, 1.0), 0.55), mix(colours["head"], colours["belly"], 0.6))
    return layer.filter(ImageFilter.GaussianBlur(canvas.side * 0.008))


def _down(painter: _Painter) -> None:
    """Fine strokes that follow the trunk, and the genus's pattern on the breast."""
    canvas, body, colours, rng = painter.canvas, painter.bird.body, painter.colours, painter.rng
    for low, high, colour in ((-0.85, -0.2, colours["back"]), (0.25, 0.85, colours["belly"])):
        along, across = rng.uniform(0.08, 0.74, 26), rng.uniform(low, high, 26)
        paths = np.stack([np.stack([along, across], -1), np.stack([along - 0.045, across + 0.03], -1)], axis=1)
        lines = body.place(paths.reshape(-1, 2)).reshape(-1, 2, 2)
        canvas.strokes(lines[:13], 0.009, scaled(colour, 0.9))
        canvas.strokes(lines[13:], 0.009, mix(colour, _LIGHT, 0.22))
    if painter.genus.texture != "plain":
        _breast(painter, mix(colours["belly"], colours["back"], 0.55))


def _breast(painter: _Painter, colour: Colour) -> None:
    rng, body = painter.rng, painter.bird.body
    rows, columns = np.meshgrid(np.linspace(0.3, 0.8, 9), np.linspace(0.3, 0.86, 5), indexing="ij")
    columns = columns + np.where(np.arange(9) % 2, 0.07, -0.03)[:, None]
    along, across = rows.ravel() + rng.normal(0, 0.008, 45), columns.ravel() + rng.normal(0, 0.03, 45)
    reach = {"streaks": (0.035, 0.02), "spots": (0.008, 0.0), "bars": (0.0, 0.1)}[painter.genus.texture]
    ends = np.stack([np.stack([along, across], -1), np.stack([along, across], -1) - reach], axis=1)
    width = 0.02 if painter.genus.texture == "spots" else 0.012
    painter.canvas.strokes(body.place(ends.reshape(-1, 2)).reshape(-1, 2, 2), width, colour)


def _beak(painter: _Painter) -> None:
    colour, number = painter.marks.get("beak", painter.colours["beak"]), _number(painter, "beak")
    upper, lower = painter.bird.beak
    painter.canvas.fill(lower, scaled(colour, 0.8), number)
    painter.canvas.fill(upper, colour, number)


def _wing(painter: _Painter) -> None:
    canvas, wing, colour = painter.canvas, painter.bird.wing, painter.colours["wing"]
    number = PARTS.index("wing")
    canvas.fill(wing.outline(), scaled(colour, 0.8), number)
    coverts = wing.place(spline([(0.02, -0.7), (0.3, -0.97), (0.56, -0.7), (0.62, 0.1), (0.5, 0.8), (0.25, 0.97),
                                 (0.04, 0.7)]))  # fmt: skip
    canvas.fill(coverts, colour, number)
    canvas.strokes(_quills(wing, 0.5, np.linspace(-0.55, 0.8, 5)), 0.009, mix(colour, _LIGHT, 0.2))
    canvas.strokes(_quills(wing, 0.55, np.linspace(-0.45, 0.9, 5)), 0.007, scaled(colour, 0.6))
    canvas.fill(wing.place(spline([(0.02, -0.5), (0.2, -0.95), (0.33, -0.2), (0.3, 0.75), (0.14, 0.85), (0.03, 0.4)])),
                mix(colour, painter.colours["back"], 0.6), number)  # fmt: skip
    for along in (0.16, 0.3, 0.52):
        canvas.strokes(_scallops(wing, along), 0.009, mix(colour, _LIGHT, 0.3))


def _scallops(wing: Strip, along: float) -> Points:
    """The rounded tips of a row of feathers: (5, 7, 2)."""
    turn_ = np.linspace(0, np.pi, 7)
    centres = np.linspace(-0.66, 0.66, 5)
    across = centres[:, None] + 0.16 * np.cos(turn_)
    tips = along + 0.035 * np.sin(turn_) - 0.03 * centres[:, None] ** 2
    return wing.place(np.stack([tips, across], axis=-1).reshape(-1, 2)).reshape(5, 7, 2)


def _eye(painter: _Painter) -> None:
    canvas, head, number = painter.canvas, painter.bird.head, PARTS.index("eye")
    x, y = EYE
    canvas.fill(painter.bird.eye, _DARK, number)
    canvas.fill(head.circle((x + 0.05, y - 0.06), EYE_RADIUS * 0.32), _LIGHT, number)
