"""Choosing the marks of a genus: which, and in which colours, so that its species can be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fieldmark.fieldguide.colours import Colour, contrast, dull, scaled
from fieldmark.fieldguide.marks import MARK_COLOURS, MARKS, ONE_SIDED
from fieldmark.fieldguide.options import Kind
from fieldmark.fieldguide.stock import Build

__all__ = ["choose_marks", "choose_variants", "open_places"]

_CLEAR = 0.3
"""A mark's least contrast with what lies beneath it and with its rivals."""
_FORGED = 0.15
"""An altered colour differs from the genuine one by this much, and by as little more as can be."""

Marks = dict[str, str]


def choose_marks(
    rng: np.random.Generator, kind: Kind, colours: Mapping[str, Colour], build: Build, count: int
) -> list[Marks]:
    """The marks (name → colour) of `count` species of one genus, as a guide of this kind has them."""
    if kind == "mirror":
        mark = ONE_SIDED[int(rng.integers(len(ONE_SIDED)))]
        return [{mark: _colour(rng, mark, colours, ())}] * 2
    if kind == "impostors":
        genuine = {mark: _colour(rng, mark, colours, ()) for mark in open_places(rng, build, 3)}
        altered = list(genuine)[int(rng.integers(len(genuine)))]
        return [genuine, genuine | {altered: _forged(altered, colours, genuine[altered])}]
    if kind == "attributes":
        return [{}] * count
    return _siblings(rng, colours, build, count)


def choose_variants(
    rng: np.random.Generator, colours: Mapping[str, Colour], places: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """For each mark the two colours in which an individual may have it."""
    first = {mark: _colour(rng, mark, colours, ()) for mark in places}
    return {mark: (colour, _colour(rng, mark, colours, (colour,))) for mark, colour in first.items()}


def open_places(rng: np.random.Generator, build: Build, count: int, taken: Sequence[str] = ()) -> list[str]:
    """`count` marks that this build can show, no two of one zone, none of the zones of the marks `taken`."""
    marks = [mark for mark in MARKS if mark not in build.lacks]
    order = [marks[i] for i in rng.permutation(len(marks))]
    zones = {MARKS[mark].zone: mark for mark in reversed(order)}  # the first mark of each zone
    closed = {MARKS[mark].zone for mark in taken}
    return [m for m in order if zones[MARKS[m].zone] == m and MARKS[m].zone not in closed][:count]


def _siblings(rng: np.random.Generator, colours: Mapping[str, Colour], build: Build, count: int) -> list[Marks]:
    """Marks for `count` species, any two of which differ in one or two."""
    chosen = open_places(rng, build, count)
    plan = rng.choice(["each its own", "one plain", "one mark, two colours"])
    if plan == "one plain":
        return [{}, *({mark: _colour(rng, mark, colours, ())} for mark in chosen[1:])]
    if plan == "one mark, two colours":
        first = _colour(rng, chosen[0], colours, ())
        second = _colour(rng, chosen[0], colours, (first,))
        pair = [{chosen[0]: first}, {chosen[0]: second}]
        return [*pair, *({mark: _colour(rng, mark, colours, ())} for mark in chosen[2:])][:count]
    return [{mark: _colour(rng, mark, colours, ())} for mark in chosen]


def _colour(rng: np.random.Generator, mark: str, colours: Mapping[str, Colour], rivals: Sequence[str]) -> str:
    """A colour that stands out from the plumage beneath, of male and female, lit or in the shade, and from rivals."""
    least = _clearness(mark, colours, rivals)
    clear = [name for name, value in least.items() if value >= _CLEAR] or [max(least, key=lambda name: least[name])]
    return clear[int(rng.integers(len(clear)))]


def _clearness(mark: str, colours: Mapping[str, Colour], rivals: Sequence[str]) -> dict[str, float]:
    """Colour name → its least contrast with what lies beneath the mark and with the rivals."""
    beneath = colours[MARKS[mark].over]
    shades = [beneath, dull(beneath, 0.5), scaled(beneath, 0.75), scaled(beneath, 1.25)]
    if MARKS[mark].ring:
        rivals = [*rivals, "black"]  # it would pass for a large eye
    others = shades + [MARK_COLOURS[name][0] for name in rivals]
    return {name: min(contrast(colour, other) for other in others) for name, (colour, _) in MARK_COLOURS.items()}


def _forged(mark: str, colours: Mapping[str, Colour], genuine: str) -> str:
    """The colour that comes nearest to the genuine one and can yet be told from it, and from what lies beneath."""
    clear = {name for name, value in _clearness(mark, colours, ()).items() if value >= _CLEAR / 2}
    apart = {name: contrast(MARK_COLOURS[name][0], MARK_COLOURS[genuine][0]) for name in MARK_COLOURS}
    near = sorted(apart, key=lambda name: apart[name])
    return next(name for name in near if apart[name] >= _FORGED and name in clear | {near[-1]})
