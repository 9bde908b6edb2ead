"""`Setting`: what stays the same through all steps of a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor

from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Recipe
from fieldmark.model.fronts import Keeper

__all__ = ["Lap", "Setting"]

Lap = Callable[[str], None]
"""Is told that a stage of a step has ended: "images" (waiting for them), "batch" (moved, normalised, mixed), "forward",
"backward", "optimiser", "rest"."""


@final
@dataclass(frozen=True)
class Setting:
    """By what a training learns, on what, and who hears of its steps."""

    recipe: Recipe
    machine: Machine
    attributes: Tensor | None = None
    """(N, A) those of the catalogue's rows that are learnt, −1 where unknown; None if none is."""
    weights: Tensor | None = None
    """(N,) how much each row counts; None for 1."""
    keeper: Keeper | None = None
    """What has kept the samples of images, if they are that. Then nothing is compiled."""
    pace: Callable[[int], int] | None = None
    """Is asked before each step how many there will be, which decides the learning rate; None for the schedule's."""
    tell: Callable[[str], None] = lambda text: None
    """Hears where the network cannot be compiled, though the machine says that it is."""
    lap: Lap = lambda stage: None
