"""`Guide`: the families, genera and species of one seed, and the marks that tell species apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from fieldmark.core.errors import RecipeError
from fieldmark.fieldguide.choosing import choose_marks, choose_variants, open_places
from fieldmark.fieldguide.colours import Colour, scaled, turn
from fieldmark.fieldguide.marks import MARKS
from fieldmark.fieldguide.names import NUM_GENUS_NAMES, genus_name, latin_genus, latin_species, species_name
from fieldmark.fieldguide.options import HabitatRule, Kind, Options
from fieldmark.fieldguide.stock import BEAKS, FAMILIES, PALETTES, Beak, Build

__all__ = ["Genus", "Guide", "HabitatRule", "Kind", "Options", "Species", "make_guide"]

_SPECIES_PER_GENUS, _GENERA_PER_FAMILY = 3, 2
_NUM_ATTRIBUTES = 5


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
    side: Literal["", "left", "right"] = ""
    """The side of the bird that has the marks; "" for both."""
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Mark → the colours that one bird of the species has it in and the next may lack; for `attributes`."""


@dataclass(frozen=True, eq=False)
class Guide:
    """Everything that is known before a picture is drawn."""

    options: Options
    species: tuple[Species, ...]
    unknown: tuple[Species, ...] = ()
    """Species that training does not see; their numbers follow those of `species`."""

    @cached_property
    def genera(self) -> tuple[Genus, ...]:
        """In order of appearance."""
        return tuple({one.genus.name: one.genus for one in self.species}.values())

    def find(self, number: int) -> Species:
        """The species of this number, known or unknown; raises RecipeError where there is none."""
        every = self.species + self.unknown
        if not 0 <= number < len(every):
            raise RecipeError(f"There is no species {number}", f"This guide has the species 0 to {len(every) - 1}.")
        return every[number]

    def differing_marks(self, a: int, b: int) -> tuple[str, ...]:
        """The marks that species `a` and `b` do not share, in the order of `MARKS`.

        Species of different genera differ in build, plumage or beak besides, and may share all marks.
        """
        one, other = self.find(a), self.find(b)
        ours, theirs = ({mark: (colour, kind.side) for mark, colour in kind.marks.items()} for kind in (one, other))
        return tuple(mark for mark in MARKS if ours.get(mark) != theirs.get(mark))


def make_guide(
    *,
    species: int = 12,
    images_per_species: int = 60,
    size: int = 160,
    seed: int = 0,
    habitat: HabitatRule = "free",
    kind: Kind = "species",
    noise: float = 0.0,
    duplicates: float = 0.0,
    unknown: int = 0,
    long_tail: float = 1.0,
) -> Guide:
    """The guide of these options; raises RecipeError where they make no sense.

    A species is the same whatever follows it: the unknown ones come last.
    """
    options = Options(
        species, images_per_species, size, seed, habitat, kind, noise, duplicates, unknown, long_tail
    )  # fmt: skip
    known_counts = _counts(species, kind)
    siblings = min((unknown + 1) // 2, 2 * len(known_counts)) if kind == "species" else 0
    counts = [*known_counts, *_counts(unknown - siblings, kind)]
    if len(counts) > NUM_GENUS_NAMES:
        raise RecipeError(
            f"A field guide of {kind} cannot have species={species}, unknown={unknown}: that is {len(counts)} genera",
            f"Choose fewer species: there are names for {NUM_GENUS_NAMES} genera.",
        )
    every = _make_species(options, counts)
    known, strangers = every[:species], every[species:]
    near = _make_siblings(options, known, siblings)
    others = [replace(one, index=species + i) for i, one in enumerate([*near, *strangers])]
    return Guide(options, tuple(known), tuple(others))


def _counts(species: int, kind: Kind) -> list[int]:
    """How many species each genus has."""
    most = {"attributes": 1, "impostors": 2, "mirror": 2}.get(kind, _SPECIES_PER_GENUS)
    return [len(part) for part in np.array_split(np.arange(species), max(-(-species // most), 1)) if len(part)]


def _make_species(options: Options, counts: Sequence[int]) -> list[Species]:
    rng = np.random.default_rng([0, options.seed])
    nouns = [genus_name(int(number)) for number in rng.permutation(NUM_GENUS_NAMES)[: len(counts)]]
    builds, beaks, palettes = (rng.permutation(len(stock)) for stock in (FAMILIES, BEAKS, PALETTES))
    found: list[Species] = []
    build, family = FAMILIES[0], ""
    for number, (noun, count) in enumerate(zip(nouns, counts, strict=True)):
        if number % _GENERA_PER_FAMILY == 0:
            build = FAMILIES[builds[number // _GENERA_PER_FAMILY % len(builds)]].varied(rng)
            family = latin_genus(noun).removesuffix("us") + "idae"
        beak = BEAKS[beaks[number % len(beaks)]].varied(rng)
        genus, marks = _make_genus(rng, options, noun, family, build, beak, palettes[number % len(palettes)], count)
        found += [_make_one(options, len(found) + i, genus, own, i) for i, own in enumerate(marks)]
    return found


def _make_genus(
    rng: np.random.Generator,
    options: Options,
    noun: str,
    family: str,
    build: Build,
    beak: Beak,
    palette: int,
    count: int,
) -> tuple[Genus, list[dict[str, str]]]:
    hue, value = rng.uniform(-0.03, 0.03), rng.uniform(0.9, 1.08)
    colours = {part: scaled(turn(colour, hue), value) for part, colour in PALETTES[palette].items()}
    texture = str(rng.choice(["plain", "streaks", "spots", "bars"]))
    crest = float(rng.choice([0.0, 0.0, rng.uniform(0.5, 0.9)]))
    marks = choose_marks(rng, options.kind, colours, build, count)
    places = tuple(mark for mark in MARKS if any(mark in own for own in marks))
    if options.kind == "attributes":
        places = _shared_places(options)
    if options.kind == "individuals":
        texture = "plain"  # the breast is for the personal pattern
    return Genus(noun, family, build, beak, colours, texture, crest, places), marks


def _shared_places(options: Options) -> tuple[str, ...]:
    """The marks that every bird of a guide of attributes may have."""
    short_legged = FAMILIES[0]  # lacks what any build may lack
    chosen = open_places(np.random.default_rng([3, options.seed]), short_legged, _NUM_ATTRIBUTES)
    return tuple(mark for mark in MARKS if mark in chosen)


def _make_one(options: Options, index: int, genus: Genus, marks: Mapping[str, str], within: int) -> Species:
    """The species `within` its genus of this number."""
    noun, latin = genus.name, latin_genus(genus.name)
    if options.kind == "mirror":
        side: Literal["left", "right"] = "right" if within else "left"
        name = f"{'Dextral' if within else 'Sinistral'} {species_name(noun, marks)}"
        return Species(index, name, f"{latin_species(noun, marks)} {'dexter' if within else 'sinister'}", genus, marks,
                       side)  # fmt: skip
    if options.kind == "impostors":
        names = (f"False {noun}", f"{latin} falsus") if within else (f"True {noun}", f"{latin} verus")
        return Species(index, *names, genus, marks)
    if options.kind == "attributes":
        rng = np.random.default_rng([4, options.seed, index])
        variants = choose_variants(rng, genus.colours, genus.places)
        return Species(index, f"Varied {noun}", f"{latin} varius", genus, marks, variants=variants)
    return Species(index, species_name(noun, marks), latin_species(noun, marks), genus, marks)


def _make_siblings(options: Options, known: Sequence[Species], count: int) -> list[Species]:
    """Unknown species of known genera, each with a mark that no known species of its genus has."""
    genera = tuple({one.genus.name: one.genus for one in known}.values())
    found: list[Species] = []
    for i in range(count):
        genus = genera[i % len(genera)]
        rng = np.random.default_rng([5, options.seed, i])
        taken = [*genus.places, *(mark for one in found if one.genus.name == genus.name for mark in one.marks)]
        places = open_places(rng, genus.build, 1, taken)
        marks = {mark: colours[0] for mark, colours in choose_variants(rng, genus.colours, places).items()}
        own = replace(genus, places=tuple(mark for mark in MARKS if mark in (*genus.places, *places)))
        found.append(_make_one(options, 0, own, marks, 0))
    return found
