"""`Scene`: all that varies from one picture of a species to the next, drawn from that picture's own random stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fieldmark.fieldguide.guide import Guide
from fieldmark.fieldguide.habitat import HABITATS

__all__ = ["PORTRAIT", "Scene", "make_scene", "split_of"]

_LIGHTS = {  # name: brightness, warmth, how hard the light is
    "soft": ((0.92, 1.06), (-0.03, 0.05), (0.35, 0.55)),
    "sunny": ((1.02, 1.16), (0.00, 0.08), (0.75, 1.0)),
    "golden": ((0.88, 1.04), (0.10, 0.20), (0.6, 0.9)),
    "shade": ((0.78, 0.90), (-0.09, -0.02), (0.25, 0.5)),
}
_LIGHT_SHARES = (0.35, 0.3, 0.15, 0.2)
_VAL, _TEST = (5, 12, 18), (2, 8, 15)


@dataclass(frozen=True)
class Scene:
    """One bird's circumstances. Angles in radians, lengths as shares of the picture."""

    habitat: str
    light: str
    sex: Literal["male", "female"]
    mirrored: bool
    """Facing left; nothing else depends on it."""
    stoop: float
    """Turn of the trunk, breast up above zero."""
    pitch: float
    """Turn of the head against the trunk, beak up above zero."""
    squeeze: float
    """1 for a head in profile, less where it is turned towards the viewer."""
    extent: float
    """The bird's longer side."""
    place: tuple[float, float]
    """Where the bird stands in the room that is left, 0 … 1 from the left and from the top."""
    brightness: float
    warmth: float
    hardness: float
    azimuth: float
    """Where the light comes from: 0 from above, below zero from the left."""
    plumage: tuple[float, float, float]
    """This individual's hue, dullness and brightness against its kind's."""
    crowd: int
    """How many twigs, blades or leaves may stand in front."""
    careless: bool
    """Whether these may hide a mark."""
    noise: float
    seeds: tuple[int, int, int, int]
    """For background, foreground, feathers and grain."""

    @property
    def pose(self) -> str:
        """level, upright or stooping."""
        return "upright" if self.stoop > 0.12 else "stooping" if self.stoop < -0.12 else "level"


PORTRAIT = Scene(
    "paper", "soft", "male", False, 0.0, 0.03, 1.0, 0.86, (0.5, 0.5), 1.03, 0.02, 0.6, -0.6,
    (0.0, 0.0, 1.0), 0, False, 0.0, (1, 2, 3, 4),
)  # fmt: skip
"""The pose and light in which a field guide shows every species."""


def split_of(index: int) -> str:
    """train, val or test: 70, 15 and 15 of each hundred, interleaved."""
    return "val" if index % 20 in _VAL else "test" if index % 20 in _TEST else "train"


def make_scene(guide: Guide, species: int, index: int) -> Scene:
    """The scene of picture `index` of `species`: a pure function of the seed and these two."""
    rng = np.random.default_rng([1, guide.options.seed, species, index])
    anywhere = list(HABITATS)[int(rng.integers(len(HABITATS)))]
    tied = guide.options.habitat == "tied" and split_of(index) != "test"
    light = str(rng.choice(list(_LIGHTS), p=_LIGHT_SHARES))
    brightness, warmth, hardness = (float(rng.uniform(*limits)) for limits in _LIGHTS[light])
    return Scene(
        habitat=home_habitat(guide, species) if tied else anywhere,
        light=light,
        sex="male" if rng.random() < 0.5 else "female",
        mirrored=bool(rng.random() < 0.5),
        stoop=float(np.clip(rng.normal(0.0, 0.16), -0.38, 0.38)),
        pitch=float(np.clip(rng.normal(0.0, 0.2), -0.45, 0.35)),
        squeeze=float(rng.uniform(0.8, 1.0)),
        extent=float(rng.uniform(0.74, 0.93)),
        place=(float(rng.random()), float(rng.random())),
        brightness=brightness,
        warmth=warmth,
        hardness=hardness,
        azimuth=float(rng.uniform(-1.1, 1.1)),
        plumage=(float(rng.normal(0, 0.012)), float(rng.uniform(0, 0.15)), float(rng.uniform(0.9, 1.1))),
        crowd=int(rng.choice([0, 1, 2, 3, 5], p=[0.35, 0.2, 0.2, 0.15, 0.1])),
        careless=bool(rng.random() < 0.04),
        noise=float(rng.uniform(1.0, 5.0)),
        seeds=tuple(int(seed) for seed in rng.integers(2**31, size=4)),  # type: ignore[arg-type]
    )


def home_habitat(guide: Guide, species: int) -> str:
    """Where a species of a tied guide lives in train and val."""
    order = np.random.default_rng([2, guide.options.seed]).permutation(len(HABITATS))
    return list(HABITATS)[order[species % len(HABITATS)]]
