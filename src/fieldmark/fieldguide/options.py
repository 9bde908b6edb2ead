"""`Options`: what decides every pixel and every line of a guide, and which of it goes together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from fieldmark.core.errors import RecipeError, nearest

__all__ = ["HabitatRule", "Kind", "Options"]

HabitatRule = Literal["free", "tied"]
Kind = Literal["species", "stages", "individuals", "attributes", "impostors", "mirror"]
PAIRED = ("impostors", "mirror")
"""Kinds whose species come two by two."""
LEAST_BURSTS = 36
"""Pictures of a species of which each individual has some in train, val and test."""


@dataclass(frozen=True)
class Options:
    """What decides every pixel of a guide, and every line of its table."""

    species: int = 12
    images_per_species: int = 60
    size: int = 160
    """The side of the square pictures in pixels."""
    seed: int = 0
    habitat: HabitatRule = "free"
    """"tied": in train and val each species keeps to one habitat; in test it is found anywhere."""
    kind: Kind = "species"
    """What the classes are: see `fieldmark.fieldguide`."""
    noise: float = 0.0
    """The share of the training pictures that get a wrong label."""
    duplicates: float = 0.0
    """The share of the pictures that occur a second time, in any split."""
    unknown: int = 0
    """The number of further species in a folder of their own, which training does not see."""
    long_tail: float = 1.0
    """How many times more training pictures the commonest class has than the rarest."""

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float, float]] = {
            "species": (self.species, 2, 300),
            "images_per_species": (self.images_per_species, 6, 9999),
            "size": (self.size, 64, 1024),
            "seed": (self.seed, 0, 2**63 - 1),
            "noise": (self.noise, 0, 0.9),
            "duplicates": (self.duplicates, 0, 1),
            "unknown": (self.unknown, 0, 100),
            "long_tail": (self.long_tail, 1, 1000),
        }
        for name, (value, least, most) in limits.items():
            if not least <= value <= most:  # not a number, too
                raise RecipeError(
                    f"A field guide cannot have {name}={value}", f"Choose a value from {least} to {most}."
                )
        if self.habitat not in get_args(HabitatRule):
            raise RecipeError(f"A field guide cannot have habitat={self.habitat!r}", "Choose 'free' or 'tied'.")
        if self.kind not in get_args(Kind):
            raise RecipeError(f"There is no field guide of the kind {self.kind!r}", nearest(self.kind, get_args(Kind)))
        self._check_combination()

    def _check_combination(self) -> None:
        if self.kind in PAIRED:
            for name, value in (("species", self.species), ("unknown", self.unknown)):
                if value % 2:
                    raise RecipeError(
                        f"A field guide of {self.kind} cannot have {name}={value}: they come in pairs",
                        "Choose an even number.",
                    )
        if self.kind == "individuals" and self.images_per_species < LEAST_BURSTS:
            raise RecipeError(
                f"A field guide of individuals cannot have images_per_species={self.images_per_species}: each "
                "individual is photographed in bursts in every split",
                f"Choose {LEAST_BURSTS} or more.",
            )
        if self.long_tail == 1:
            return
        if self.kind in ("stages", "individuals"):
            raise RecipeError(
                f"A field guide of {self.kind} cannot have long_tail={self.long_tail:g}: its classes are not species",
                "Leave long_tail out, or choose another kind.",
            )
        training = sum(split_of(index) == "train" for index in range(self.images_per_species))
        if self.long_tail > training:
            raise RecipeError(
                f"A field guide with {training} training pictures per species cannot have long_tail={self.long_tail:g}",
                f"Choose at most {training}, or draw more images.",
            )


_VAL, _TEST = (5, 12, 18), (2, 8, 15)


def split_of(index: int) -> str:
    """train, val or test: 70, 15 and 15 of each hundred, interleaved."""
    return "val" if index % 20 in _VAL else "test" if index % 20 in _TEST else "train"
