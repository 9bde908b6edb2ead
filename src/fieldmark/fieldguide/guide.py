"""`Guide`: the families, genera and species of one seed, and the marks that tell species apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from fieldmark.errors import RecipeError
from fieldmark.fieldguide.colours import Colour, contrast, dull, scaled, turn
from fieldmark.fieldguide.marks import MARK_COLOURS, MARKS
from fieldmark.fieldguide.names import NUM_GENUS_NAMES, genus_name, latin_genus, latin_species, species_name
from fieldmark.fieldguide.stock import BEAKS, FAMILIES, PALETTES, Beak, Build

__all__ = ["Genus", "Guide", "HabitatRule", "Options", "Species", "make_guide"]

HabitatRule = Literal["free", "tied"]
_SPECIES_PER_GENUS, _GENERA_PER_FAMILY = 3, 2
_CLEAR = 0.3
"""A mark's least contrast with what lies beneath it and with its rivals."""


@dataclass(frozen=True)
class Options:
    """What decides every pixel of a guide."""

    species: int = 12
    images_per_species: int = 60
    size: int = 160
    """Side of the square pictures in pixels."""
    seed: int = 0
    habitat: HabitatRule = "free"
    """"tied": in train and val each species keeps to one habitat; in test it is found anywhere."""

    def __post_init__(self) -> None:
        limits = {
            "species": (self.species, 2, 300),
            "images_per_species": (self.images_per_species, 6, 9999),
            "size": (self.size, 64, 1024),
            "seed": (self.seed, 0, 2**63 - 1),
        }
        for name, (value, least, most) in limits.items():
            if not least <= value <= most:
                raise RecipeError(f"A field guide cannot have {name}={value}", f"Choose {least} to {most}.")
        if self.habitat not in get_args(HabitatRule):
            raise RecipeError(f"A field guide cannot have habitat={self.habitat!r}", "Choose 'free' or 'tied'.")


@dataclass(frozen=True)
class Genus:
    """Species that share build, plumage and beak."""

    name: str
    family: str
    build: Build
    beak: Beak
    colours: Mapping[str, Colour]
    """Plumage by region: back, belly, head, wing, tail, beak, legs."""
    texture: str
    """The pattern of the breast: plain, streaks, spots or bars."""
    crest: float
    """Length of the crest in head radii, 0 for none."""
    places: tuple[str, ...]
    """The marks by which its species differ."""


@dataclass(frozen=True)
class Species:
    """One class of the data set."""

    index: int
    name: str
    latin: str
    genus: Genus
    marks: Mapping[str, str]
    """Mark → colour name; a mark that is not listed has the colour of the plumage around it."""


@dataclass(frozen=True, eq=False)
class Guide:
    """Everything that is known before a picture is drawn."""

    options: Options
    species: tuple[Species, ...]

    @cached_property
    def genera(self) -> tuple[Genus, ...]:
        """In order of appearance."""
        return tuple({one.genus.name: one.genus for one in self.species}.values())

    def differing_marks(self, a: int, b: int) -> tuple[str, ...]:
        """The marks that species `a` and `b` do not share, in the order of `MARKS`.

        Species of different genera differ in build, plumage or beak besides, and may share all marks.
        """
        ours, theirs = self.species[a].marks, self.species[b].marks
        return tuple(mark for mark in MARKS if ours.get(mark) != theirs.get(mark))


def make_guide(
    *,
    species: int = 12,
    images_per_species: int = 60,
    size: int = 160,
    seed: int = 0,
    habitat: HabitatRule = "free",
) -> Guide:
    """The guide of these options; raises RecipeError where they make no sense."""
    options = Options(species, images_per_species, size, seed, habitat)
    rng = np.random.default_rng([0, options.seed])
    counts = [len(part) for part in np.array_split(np.arange(species), -(-species // _SPECIES_PER_GENUS))]
    nouns = [genus_name(int(number)) for number in rng.permutation(NUM_GENUS_NAMES)[: len(counts)]]
    builds, beaks, palettes = (rng.permutation(len(stock)) for stock in (FAMILIES, BEAKS, PALETTES))
    found: list[Species] = []
    build, family = FAMILIES[0], ""
    for number, (noun, count) in enumerate(zip(nouns, counts, strict=True)):
        if number % _GENERA_PER_FAMILY == 0:
            build = FAMILIES[builds[number // _GENERA_PER_FAMILY % len(builds)]].varied(rng)
            family = latin_genus(noun).removesuffix("us") + "idae"
        beak = BEAKS[beaks[number % len(beaks)]].varied(rng)
        genus, marks = _make_genus(rng, noun, family, build, beak, palettes[number % len(palettes)], count)
        found += [
            Species(len(found) + i, species_name(noun, own), latin_species(noun, own), genus, own)
            for i, own in enumerate(marks)
        ]
    return Guide(options, tuple(found))


def _make_genus(
    rng: np.random.Generator, noun: str, family: str, build: Build, beak: Beak, palette: int, count: int
) -> tuple[Genus, list[dict[str, str]]]:
    hue, value = rng.uniform(-0.03, 0.03), rng.uniform(0.9, 1.08)
    colours = {part: scaled(turn(colour, hue), value) for part, colour in PALETTES[palette].items()}
    texture = str(rng.choice(["plain", "streaks", "spots", "bars"]))
    crest = float(rng.choice([0.0, 0.0, rng.uniform(0.5, 0.9)]))
    marks = _choose_marks(rng, colours, build, count)
    places = tuple(mark for mark in MARKS if any(mark in own for own in marks))
    return Genus(noun, family, build, beak, colours, texture, crest, places), marks


def _choose_marks(
    rng: np.random.Generator, colours: Mapping[str, Colour], build: Build, count: int
) -> list[dict[str, str]]:
    """Marks for `count` species, any two of which differ in one or two."""
    open_marks = [mark for mark in MARKS if mark not in build.lacks]
    order = [open_marks[i] for i in rng.permutation(len(open_marks))]
    zones = {MARKS[mark].zone: mark for mark in reversed(order)}  # the first mark of each zone
    chosen = [mark for mark in order if zones[MARKS[mark].zone] == mark][:count]
    plan = rng.choice(["each its own", "one plain", "one mark, two colours"])
    if plan == "one plain":
        return [{}, *({mark: _colour(rng, mark, colours, ())} for mark in chosen[1:])]
    if plan == "one mark, two colours":
        first = _colour(rng, chosen[0], colours, ())
        second = _colour(rng, chosen[0], colours, (first,))
        pair = [{chosen[0]: first}, {chosen[0]: second}]
        return pair + [{mark: _colour(rng, mark, colours, ())} for mark in chosen[2:]]
    return [{mark: _colour(rng, mark, colours, ())} for mark in chosen]


def _colour(rng: np.random.Generator, mark: str, colours: Mapping[str, Colour], rivals: Sequence[str]) -> str:
    """A colour that stands out from the plumage beneath, of male and female, lit or in the shade, and from rivals."""
    beneath = colours[MARKS[mark].over]
    shades = [beneath, dull(beneath, 0.5), scaled(beneath, 0.75), scaled(beneath, 1.25)]
    if MARKS[mark].ring:
        rivals = [*rivals, "black"]  # it would pass for a large eye
    others = shades + [MARK_COLOURS[name][0] for name in rivals]
    least = {name: min(contrast(colour, other) for other in others) for name, (colour, _) in MARK_COLOURS.items()}
    clear = [name for name, value in least.items() if value >= _CLEAR] or [max(least, key=lambda name: least[name])]
    return clear[int(rng.integers(len(clear)))]
