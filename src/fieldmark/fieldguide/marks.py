"""The field marks: where each lies on the bird, and what it is called.

A mark's outline is given in the coordinates of the part that it lies on (see `shapes`), so that it follows the pose:
on the head (forward, down) in head radii; on body, wing and tail (along, across) with across in -1 … 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from fieldmark.fieldguide.colours import Colour

__all__ = ["EXTRAS", "EYE", "EYE_RADIUS", "FIRST_MARK", "MARKS", "MARK_COLOURS", "ONE_SIDED", "Mark", "mark_id"]

EYE, EYE_RADIUS = (0.32, -0.14), 0.19
"""The eye, in head coordinates."""
FIRST_MARK = 15
"""Added to a mark's number (`mark_id`) on the canvas and in mask files."""


@dataclass(frozen=True)
class Mark:
    """A place on the bird that can carry a colour of its own."""

    part: str
    """The part it lies on: head, body, wing, tail, or all of beak or legs."""
    over: str
    """The plumage colour beneath it."""
    zone: str
    """Marks of one zone touch or look alike, and never meet in one genus."""
    called: str
    """As in "golden-crowned"."""
    epithet: str
    """As in "auricoronatus"."""
    outline: tuple[tuple[float, float], ...] = ()
    """Its corners, joined by a smooth curve; empty for a whole part."""
    ring: float = 0.0
    """The radius of a ring around the eye, instead of an outline."""


MARKS: MappingProxyType[str, Mark] = MappingProxyType(
    {
        "eye ring": Mark("head", "head", "eye", "eyed", "oculatus", ring=0.42),
        "eyebrow": Mark(
            "head", "head", "crown", "browed", "superciliosus",
            ((0.8, -0.4), (0.45, -0.76), (-0.2, -0.84), (-0.78, -0.42), (-0.62, -0.3), (-0.2, -0.55), (0.4, -0.52)),
        ),
        "crown patch": Mark(
            "head", "head", "crown", "crowned", "coronatus",
            ((0.78, -0.55), (0.42, -0.92), (-0.1, -1.0), (-0.62, -0.78), (-0.72, -0.54), (-0.1, -0.58), (0.4, -0.57)),
        ),
        "cheek patch": Mark(
            "head", "head", "cheek", "cheeked", "genatus",
            ((0.08, 0.16), (-0.28, 0.04), (-0.66, 0.24), (-0.62, 0.64), (-0.2, 0.76), (0.16, 0.48)),
        ),
        "moustache": Mark(
            "head", "head", "cheek", "whiskered", "mystacinus",
            ((0.84, 0.26), (0.46, 0.26), (0.02, 0.52), (-0.26, 0.95), (0.12, 1.02), (0.5, 0.78)),
        ),
        "throat patch": Mark(
            "head", "head", "cheek", "throated", "gularis",
            ((0.88, 0.38), (0.46, 0.42), (0.0, 0.82), (0.1, 1.1), (0.5, 0.9), (0.8, 0.6)),
        ),
        "nape patch": Mark(
            "head", "head", "nape", "naped", "nuchalis",
            ((-0.5, -0.62), (-0.8, -0.62), (-1.0, -0.1), (-0.97, 0.3), (-0.72, 0.32), (-0.64, -0.1)),
        ),
        "beak": Mark("beak", "beak", "beak", "billed", "rostris"),
        "breast spot": Mark(
            "body", "belly", "breast", "spotted", "maculatus",
            ((0.6, 0.42), (0.665, 0.22), (0.73, 0.42), (0.72, 0.68), (0.665, 0.86), (0.61, 0.68)),
        ),
        "breast band": Mark(
            "body", "belly", "breast", "banded", "torquatus",
            ((0.735, -0.12), (0.78, -0.12), (0.775, 0.4), (0.755, 0.96), (0.7, 0.96), (0.725, 0.4)),
        ),
        "vent": Mark(
            "body", "belly", "vent", "vented", "crissalis",
            ((0.05, 0.25), (0.16, 0.42), (0.26, 0.7), (0.25, 0.97), (0.14, 0.98), (0.04, 0.95)),
        ),
        "wing bar": Mark(
            "wing", "wing", "wing", "barred", "alaris",
            ((0.33, -0.86), (0.4, -0.86), (0.47, 0.0), (0.46, 0.93), (0.37, 0.93), (0.38, 0.0)),
        ),
        "shoulder patch": Mark(
            "wing", "wing", "shoulder", "shouldered", "humeralis",
            ((0.05, -0.5), (0.16, -0.72), (0.25, -0.2), (0.24, 0.5), (0.12, 0.78), (0.04, 0.4)),
        ),
        "wing tip": Mark(
            "wing", "wing", "tip", "tipped", "pennatus",
            ((0.72, -0.8), (0.84, -0.75), (0.97, -0.4), (0.97, 0.4), (0.84, 0.78), (0.7, 0.85), (0.74, 0.0)),
        ),
        "tail band": Mark(
            "tail", "tail", "tail", "tailed", "caudatus",
            ((0.6, -0.99), (0.82, -0.99), (0.84, 0.0), (0.82, 0.99), (0.6, 0.99), (0.62, 0.0)),
        ),
        "legs": Mark("legs", "legs", "legs", "legged", "pes"),
    }
)  # fmt: skip

ONE_SIDED = ("eyebrow", "cheek patch", "moustache", "wing bar", "shoulder patch", "wing tip")
"""Marks that one side of a bird can have without the other, large enough to be missed where they lack."""
EXTRAS: MappingProxyType[str, str] = MappingProxyType(
    {"moult on body": "body", "moult on wing": "wing", "personal pattern": "body"}
)
"""What else is drawn upon a bird, and the part it lies on; in masks its numbers follow those of the marks."""

MARK_COLOURS: MappingProxyType[str, tuple[Colour, str]] = MappingProxyType(
    {
        "white": ((248, 248, 244), "albi"),
        "black": ((22, 20, 24), "nigri"),
        "golden": ((250, 200, 20), "auri"),
        "orange": ((245, 120, 15), "aurantii"),
        "scarlet": ((215, 25, 35), "rubri"),
        "azure": ((30, 120, 230), "caeruli"),
        "teal": ((10, 165, 150), "glauci"),
        "violet": ((130, 50, 190), "violacei"),
        "rose": ((245, 120, 165), "rosei"),
    }
)
"""Name → the colour and its Latin prefix."""


def mark_id(name: str) -> int:
    """The value of this mark's pixels in a mark mask; 0 means that there is no mark."""
    return 1 + [*MARKS, *EXTRAS].index(name)
