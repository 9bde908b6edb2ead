"""What families and genera are made from: builds, beaks, palettes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from fieldmark.fieldguide.colours import Colour

__all__ = ["BEAKS", "FAMILIES", "PALETTES", "Beak", "Build"]


def _jitter(rng: np.random.Generator, value: float, share: float) -> float:
    return value * float(rng.uniform(1 - share, 1 + share))


@dataclass(frozen=True)
class Build:
    """The proportions of a family; lengths in trunk lengths, angles in degrees."""

    depth: float
    """Of the trunk, 1 for a thrush."""
    head: float
    """Radius."""
    neck: float
    posture: float
    """How far the breast stands above the tail."""
    leg: float
    tail: float
    tail_width: float
    fork: float
    """Notch of the tail; below zero it is pointed."""
    tail_angle: float
    """Upwards from the trunk's axis."""
    wing: float
    """Length."""
    lacks: tuple[str, ...] = ()
    """Marks that would be too small on this build."""

    def varied(self, rng: np.random.Generator) -> Self:
        """A related build."""
        names = [field.name for field in fields(self) if field.name != "lacks"]
        changes: dict[str, Any] = {name: _jitter(rng, getattr(self, name), 0.07) for name in names}
        return replace(self, **changes)


@dataclass(frozen=True)
class Beak:
    """Lengths in head radii."""

    length: float
    depth: float
    curve: float
    """How far the tip bends down; below zero up."""
    belly: float
    """How much the ridge bulges."""

    def varied(self, rng: np.random.Generator) -> Self:
        """A related beak."""
        return replace(self, **{field.name: _jitter(rng, getattr(self, field.name), 0.08) for field in fields(self)})


FAMILIES: tuple[Build, ...] = (
    Build(1.00, 0.205, 0.13, 32, 0.24, 0.42, 0.080, 0.10, 6, 0.72, ("legs",)),  # a thrush
    Build(0.90, 0.170, 0.27, 22, 0.50, 0.22, 0.075, -0.15, -4, 0.74),  # a wader
    Build(1.18, 0.235, 0.09, 24, 0.26, 0.28, 0.090, -0.10, 38, 0.60, ("legs",)),  # a wren
    Build(1.05, 0.178, 0.17, 24, 0.18, 0.46, 0.105, -0.12, 4, 0.76, ("legs",)),  # a dove
    Build(0.80, 0.195, 0.10, 44, 0.16, 0.56, 0.095, 0.34, 0, 0.86, ("legs",)),  # a bee-eater
    Build(1.22, 0.185, 0.17, 16, 0.34, 0.20, 0.095, -0.10, -10, 0.66),  # a partridge
    Build(0.88, 0.225, 0.11, 40, 0.20, 0.50, 0.085, -0.18, -2, 0.74, ("legs",)),  # a jay
    Build(0.95, 0.180, 0.36, 30, 0.46, 0.22, 0.085, -0.10, -8, 0.72),  # a small heron
)

BEAKS: tuple[Beak, ...] = (
    Beak(0.68, 0.44, 0.05, 0.10),  # cone
    Beak(0.84, 0.28, 0.02, 0.00),  # slender
    Beak(1.35, 0.24, 0.02, -0.02),  # dagger
    Beak(1.30, 0.25, 0.42, 0.06),  # sickle
    Beak(0.66, 0.38, 0.22, 0.16),  # hook
    Beak(0.95, 0.27, -0.16, -0.03),  # upturned
    Beak(0.85, 0.42, 0.14, 0.18),  # heavy
)

_PARTS = ("back", "belly", "head", "wing", "tail", "beak", "legs")


def _palette(*codes: str) -> dict[str, Colour]:
    triples = (tuple(bytes.fromhex(code)) for code in codes)
    return {part: (float(r), float(g), float(b)) for part, (r, g, b) in zip(_PARTS, triples, strict=True)}


PALETTES: tuple[dict[str, Colour], ...] = (
    _palette("8a6a48", "e2cfae", "9a7a55", "6e5238", "5f4630", "6b5a4a", "a08468"),  # russet brown
    _palette("6f8a99", "dbe2e2", "62808f", "4d6675", "465c69", "4a4a50", "7a7068"),  # slate blue
    _palette("7d8f4e", "d8d79a", "869a58", "5f7040", "536238", "5c5648", "8a7a68"),  # olive
    _palette("b08a6a", "ecd9c0", "a5785a", "86644a", "74553f", "55483e", "9c7e66"),  # cinnamon
    _palette("8c8f96", "e6e4e0", "7c8088", "5d6068", "54575e", "6a6258", "8a7f76"),  # dove grey
    _palette("5f9a8c", "cfe3c8", "4f8a80", "3f7068", "3a625c", "5a5048", "84786a"),  # sea green
    _palette("a8755c", "d9a98a", "96604a", "76503e", "684536", "5e5048", "987a66"),  # brick
    _palette("9a8fae", "dcd5e2", "877b9e", "6b6282", "5d5572", "54505a", "827888"),  # lilac grey
    _palette("c2a45e", "efe3b4", "b3934e", "8f7440", "7d6538", "62564a", "a08a68"),  # straw
    _palette("55657f", "a9b8c9", "4a5a76", "3e4b63", "384358", "5c5a60", "75706e"),  # dusky blue
    _palette("94805f", "cdbb98", "7d6b4e", "6a5a42", "5c4e3a", "585048", "94806a"),  # dun
    _palette("6d7f63", "c3ccae", "5e7056", "4e5e48", "46543f", "504a44", "7d7466"),  # moss
)
