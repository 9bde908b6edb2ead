"""`Scene`: all that varies from one picture of a species to the next, drawn from that picture's own random stream.

Of individuals, `BURST` pictures are one burst: the same bird at the same place and hour. Bursts go round the
`NUM_INDIVIDUALS` birds of a species, and each bird's bursts round the splits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fieldmark.fieldguide.guide import Guide
from fieldmark.fieldguide.habitat import HABITATS
from fieldmark.fieldguide.options import split_of

__all__ = ["BURST", "NUM_INDIVIDUALS", "NUM_STAGES", "PORTRAIT", "Scene", "make_scene", "split_in", "split_of"]

NUM_STAGES, NUM_INDIVIDUALS, BURST = 5, 4, 3
STAGE_FEATHERS = ((0, 0), (2, 5), (8, 12), (16, 22), (28, 38))
"""Stage of the moult → the fewest and the most new feathers."""
_VISITS = ("train", "test", "val", "train", "train")
"""The splits that a bird's bursts go to."""

_LIGHTS = {  # name: brightness, warmth, how hard the light is
    "soft": ((0.92, 1.06), (-0.03, 0.05), (0.35, 0.55)),
    "sunny": ((1.02, 1.16), (0.00, 0.08), (0.75, 1.0)),
    "golden": ((0.88, 1.04), (0.10, 0.20), (0.6, 0.9)),
    "shade": ((0.78, 0.90), (-0.09, -0.02), (0.25, 0.5)),
}
_LIGHT_SHARES = (0.35, 0.3, 0.15, 0.2)


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
    stage: int | None = None
    """Of the moult, 0 … `NUM_STAGES` - 1."""
    new_feathers: int = 0
    individual: int | None = None
    """Which bird of its species, 0 … `NUM_INDIVIDUALS` - 1."""
    burst: int | None = None
    pattern: int | None = None
    """What the individual's personal pattern is drawn from."""

    @property
    def pose(self) -> str:
        """level, upright or stooping."""
        return "upright" if self.stoop > 0.12 else "stooping" if self.stoop < -0.12 else "level"

    @property
    def side(self) -> Literal["left", "right"]:
        """The side of the bird that is seen."""
        return "left" if self.mirrored else "right"


PORTRAIT = Scene(
    "paper", "soft", "male", False, 0.0, 0.03, 1.0, 0.86, (0.5, 0.5), 1.03, 0.02, 0.6, -0.6,
    (0.0, 0.0, 1.0), 0, False, 0.0, (1, 2, 3, 4),
)  # fmt: skip
"""The pose and light in which a field guide shows every species."""


def split_in(guide: Guide, index: int) -> str:
    """The split of picture `index`: `split_of`, except that bursts stay whole."""
    if guide.options.kind == "individuals":
        return _VISITS[index // (BURST * NUM_INDIVIDUALS) % len(_VISITS)]
    return split_of(index)


def make_scene(guide: Guide, species: int, index: int) -> Scene:
    """The scene of picture `index` of `species`: a pure function of the seed, the kind and these two."""
    scene = _make_scene(guide, species, index)
    match guide.options.kind:
        case "stages":
            return _moulting(guide, scene, species, index)
        case "individuals":
            return _sighted(guide, scene, species, index)
        case "mirror":
            return replace(scene, careless=False)  # a mark that may be hidden or absent says nothing
    return scene


def _moulting(guide: Guide, scene: Scene, species: int, index: int) -> Scene:
    rng = np.random.default_rng([6, guide.options.seed, species, index])
    stage = int(rng.integers(NUM_STAGES))
    fewest, most = STAGE_FEATHERS[stage]
    place = home_habitat(guide, stage) if _is_tied(guide, species, index) else scene.habitat
    return replace(scene, stage=stage, new_feathers=int(rng.integers(fewest, most + 1)), habitat=place)


def _sighted(guide: Guide, scene: Scene, species: int, index: int) -> Scene:
    """The scene of one frame of a burst: the first frame's, but for what changes within a second."""
    burst = index // BURST
    individual = burst % NUM_INDIVIDUALS
    rng = np.random.default_rng([7, guide.options.seed, species, individual])
    sex: Literal["male", "female"] = "male" if rng.random() < 0.5 else "female"
    plumage = (float(rng.normal(0, 0.012)), float(rng.uniform(0, 0.15)), float(rng.uniform(0.9, 1.1)))
    first = _make_scene(guide, species, burst * BURST)
    crossed = (first.place[0] * 0.8 + scene.place[0] * 0.2, first.place[1] * 0.9 + scene.place[1] * 0.1)
    return replace(
        first,
        sex=sex,
        plumage=plumage,
        mirrored=scene.mirrored if index % BURST == BURST - 1 else first.mirrored,  # the last frame may face about
        stoop=first.stoop + 0.25 * scene.stoop,
        pitch=float(np.clip(first.pitch + 0.5 * scene.pitch, -0.45, 0.35)),
        place=crossed,
        careless=False,
        seeds=(first.seeds[0], first.seeds[1], scene.seeds[2], scene.seeds[3]),
        individual=individual,
        burst=burst,
        pattern=int(rng.integers(2**31)),
    )


def _is_tied(guide: Guide, species: int, index: int) -> bool:
    """Test pictures, and so all of unknown species, are taken anywhere."""
    known = species < guide.options.species
    return guide.options.habitat == "tied" and known and split_in(guide, index) != "test"


def _make_scene(guide: Guide, species: int, index: int) -> Scene:
    rng = np.random.default_rng([1, guide.options.seed, species, index])
    anywhere = list(HABITATS)[int(rng.integers(len(HABITATS)))]
    tied = _is_tied(guide, species, index)
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
        seeds=tuple(int(seed) for seed in rng.integers(2**31, size=4)),  # type: ignore[arg-type]  # they are four
    )


def home_habitat(guide: Guide, species: int) -> str:
    """Where a species (or a stage) of a tied guide lives in train and val."""
    order = np.random.default_rng([2, guide.options.seed]).permutation(len(HABITATS))
    return list(HABITATS)[order[species % len(HABITATS)]]
