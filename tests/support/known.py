"""Known images for explanations: noise."""

from __future__ import annotations

from pathlib import Path

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
        generator = torch.Generator().manual_seed(sum(thing.name.encode()))
        return Shown(torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=generator), (side, side))

    things = [Thing(f"{label}{number}", Path(f"{label}{number}")) for number in range(count)]
    known, shown = known_maps(method, things, see, method.backbone.normalization, place, label)
    assert len(shown) == count
    return known
