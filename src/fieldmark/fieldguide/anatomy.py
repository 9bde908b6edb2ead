"""`Anatomy`: the outlines of one bird in one pose, in bird coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fieldmark.fieldguide.guide import Genus
from fieldmark.fieldguide.marks import EYE, EYE_RADIUS, MARKS
from fieldmark.fieldguide.scene import Scene
from fieldmark.fieldguide.shapes import Disc, Points, Strip, points, spline, turned

__all__ = ["KEYPOINTS", "Anatomy", "Leg", "pose"]

KEYPOINTS = (
    "beak tip", "eye", "crown", "nape", "throat", "breast", "belly", "back", "wing tip", "tail tip", "leg",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Leg:
    """Hip, heel and foot (3, 2); the lines of the toes (T, 2, 2); the width of the shank."""

    bones: Points
    toes: Points
    width: float


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One bird."""

    body: Strip
    """Along from rump (0) to neck (1), across from back (-1) to belly (1)."""
    head: Disc
    wing: Strip
    """Along from shoulder (0) to tip (1)."""
    tail: Strip
    """Along from rump (0) to tip (1)."""
    beak: tuple[Points, Points]
    """Upper half, whose last point but three is the tip, and lower half."""
    legs: tuple[Leg, Leg]
    """Far and near."""
    crest: Points | None
    foot: Points
    """(1, 2) where the near foot stands."""

    def mark(self, name: str) -> Points:
        """The outline of a mark that is not a whole part."""
        mark = MARKS[name]
        if mark.ring:
            return self.head.circle(EYE, mark.ring)
        part: Strip | Disc = getattr(self, mark.part)
        return part.place(spline(mark.outline, samples=4))

    @cached_property
    def eye(self) -> Points:
        """The edge of the eye."""
        return self.head.circle(EYE, EYE_RADIUS)

    @cached_property
    def keypoints(self) -> Points:
        """In the order of `KEYPOINTS` (P, 2)."""
        head = self.head.place([EYE, (0.0, -0.8), (-0.8, -0.2), (0.55, 0.72)])
        trunk = self.body.place([(0.67, 0.6), (0.4, 0.75), (0.77, -0.85)])
        ends = np.concatenate([self.wing.place([(0.97, 0.0)]), self.tail.place([(0.96, 0.0)]), self.legs[1].bones[1:2]])
        return np.concatenate([self.beak[0][-4:-3], head, trunk, ends])

    @cached_property
    def extent(self) -> tuple[Points, Points]:
        """The least and the greatest coordinates (2,) of all outlines."""
        legs = [array.reshape(-1, 2) for leg in self.legs for array in (leg.bones, leg.toes)]
        crest = [] if self.crest is None else [self.crest]
        outlines = (self.body.outline(), self.head.circle(), self.wing.outline(), self.tail.outline(), *self.beak)
        everything = np.concatenate([*outlines, *legs, *crest])
        return everything.min(axis=0), everything.max(axis=0)


def pose(genus: Genus, scene: Scene) -> Anatomy:
    """The bird of `genus` as it sits in `scene`."""
    build = genus.build
    trunk = np.radians(build.posture) + scene.stoop
    body, head = _trunk_and_head(genus, scene, trunk)
    wing = _wing(body, build.wing, build.depth, trunk)
    axis = trunk + np.pi - np.radians(build.tail_angle)
    tail = _strip(body.line[0] + turned([0.06, 0.0], trunk)[0], axis, build.tail, build.tail_width, build.fork)
    legs = _leg(body, 0.47, build.leg, -0.05), _leg(body, 0.40, build.leg, 0.0)
    crest = spline([(0.2, -0.9), (-0.5, -1.05 - 0.3 * genus.crest), (-0.75 - genus.crest, -0.95 - 0.45 * genus.crest),
                    (-0.8, -0.5), (-0.4, -0.5)])  # fmt: skip
    return Anatomy(
        body,
        head,
        wing,
        tail,
        _beak(genus, head),
        legs,
        head.place(crest) if genus.crest else None,
        legs[1].bones[2:3],
    )


def _trunk_and_head(genus: Genus, scene: Scene, trunk: float) -> tuple[Strip, Disc]:
    build = genus.build
    trunk_line = turned([(-0.5, -0.03), (-0.3, 0.01), (-0.03, 0.035), (0.22, 0.0), (0.37, -0.1)], trunk)
    lift = trunk * 0.5 + np.radians(52)  # a neck stands steeper than the trunk
    centre = trunk_line[-1:] + turned([build.neck + build.head * 0.45, 0.0], lift)
    halves = np.array([0.075, 0.165, 0.245, 0.225]) * build.depth
    neck = min(halves[3] * 0.84, build.head * 1.02) * (0.92 if build.neck > 0.2 else 1.0)
    knots = np.concatenate([trunk_line, centre])
    curve = spline(np.column_stack([knots, [*halves, neck, build.head * 0.93]]), closed=False, samples=6)
    even = np.linspace(0, 1, 33)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(curve[:, :2], axis=0).T))])
    x, y, half = (np.interp(even, along / along[-1], column) for column in curve.T)
    head = Disc(centre, build.head, scene.pitch + trunk * 0.2, scene.squeeze)
    return Strip(np.stack([x, y], axis=1), half, half), head


def _wing(body: Strip, length: float, depth: float, trunk: float) -> Strip:
    knots = np.linspace(0, 1, 25)
    root = body.place([(0.69, -0.18)])[0]
    line = root + turned(np.stack([-length * knots, 0.05 * np.sin(np.pi * knots) - 0.03 * knots], axis=1), trunk - 0.05)
    profile = np.interp(knots, [0, 0.1, 0.25, 0.5, 0.75, 0.92, 1], [0.3, 0.72, 0.96, 1.0, 0.62, 0.25, 0.04])
    return Strip(line, 0.12 * depth * profile, 0.165 * depth * profile, hand=-1)


def _strip(root: Points, angle: float, length: float, half: float, notch: float) -> Strip:
    knots = np.linspace(0, 1, 13)
    line = root + turned(np.stack([length * knots, np.zeros_like(knots)], axis=1), angle)
    width = half * np.interp(knots, [0, 0.3, 1.0], [0.75, 0.8, 1.25])
    return Strip(line, width, width, notch, hand=-1)


def _beak(genus: Genus, head: Disc) -> tuple[Points, Points]:
    beak = genus.beak
    length, half, hook = beak.length, beak.depth / 2, beak.curve
    tip = (0.9 + length, 0.1 + hook)
    middle = 0.06 + hook * 0.3
    ridge = [(0.78, 0.06 - half), (0.9 + length * 0.4, middle - half * 0.78 - beak.belly),
             (0.9 + length * 0.8, 0.09 + hook * 0.68 - half * 0.3 - beak.belly * 0.6), tip]  # fmt: skip
    blunt = (tip[0] - 0.05, tip[1] + 0.09)  # a needle's tip would vanish between the pixels
    gape = [blunt, (0.9 + length * 0.5, middle + half * 0.12), (0.7, 0.1)]
    lower = [(0.7, 0.1), (0.9 + length * 0.5, middle + half * 0.12), (tip[0] - 0.05 * length, tip[1] + 0.05),
             (0.9 + length * 0.45, middle + half * 0.85), (0.78, 0.1 + half * 0.95)]  # fmt: skip
    return head.place([*spline(ridge, closed=False, samples=5), *gape]), head.place(lower)


def _leg(body: Strip, along: float, length: float, lean: float) -> Leg:
    hip = body.place([(along, 0.72)])[0]
    heel = hip + points([-0.05 + lean, length * 0.5])[0]
    foot = hip + points([0.02 + lean, length])[0]
    toes = np.array([[foot, foot + reach] for reach in ((0.1, 0.012), (0.075, 0.035), (-0.06, 0.02))])
    return Leg(points([hip, heel, foot]), toes, 0.034)
