"""Known images for explanations: noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fieldmark.answering.explaining.examples import Known, known_maps
from fieldmark.answering.explaining.taps import Tap
from fieldmark.answering.stream import Shown
from fieldmark.answering.things import Thing
from fieldmark.model.method import Method

__all__ = ["known_noise"]


def known_noise(method: Method, place: Tap, label: str, count: int, side: int = 64) -> Known:
    """The maps of so many images of noise, which are called after their class."""

    def see(thing: Thing) -> Shown:
        rng = np.random.default_rng(sum(thing.name.encode()))
        return Shown(rng.integers(0, 256, (3, side, side), np.uint8), (side, side))

    things = [Thing(f"{label}{number}", Path(f"{label}{number}")) for number in range(count)]
    known, shown = known_maps(
        method, things, see, lambda views: method.backbone.normalization(torch.from_numpy(views)), place, label
    )
    assert len(shown) == count
    return known
