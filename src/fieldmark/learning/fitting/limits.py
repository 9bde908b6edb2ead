"""What a measurement of speed says about a recipe on this machine: what limits it, and what could be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import cache_folder
from fieldmark.learning.fitting.speed import Pictures, Speed

__all__ = ["Bench"]

_NEARLY_ALL, _HALF, _SOME = 0.9, 0.5, 0.05
"""A loop that reaches nearly all of the bare step is held up by nothing worth speaking of."""
_BUSY = 0.25
"""Rounds that differ so much were disturbed by other work."""


@final
@dataclass(frozen=True)
class Bench:
    """How fast a recipe learns and answers on this machine."""

    recipe: Recipe
    machine: Machine
    speed: Speed
    validated: int
    """Images that are answered after each epoch."""
    memory: Mapping[str, int]
    """The most bytes that were in use: of the "process", and of the "gpu" if there is one."""
    tried: Mapping[str, float]
    """Images per second of bare steps in each way that the machine can compute; {} if a trial would not pay."""

    @property
    def seconds(self) -> dict[str, float]:
        """What a whole training would spend on each stage: those of `Lap`, and "validating"."""
        learning = self.speed.learning
        if learning is None:
            return {}
        steps = {stage: spent * learning.num_steps for stage, spent in learning.stages.items()}
        return steps | {"validating": learning.num_epochs * self.validated * self.speed.answering.image}

    @property
    def limit(self) -> str:
        """What limits the speed, as was measured, in a sentence or two."""
        return _limit(self)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        learning = self.speed.learning
        found = asdict(self.speed)
        if learning is not None:
            found["learning"] |= {
                "ratio": learning.ratio,
                "bare": learning.bare,
                "images_per_second": learning.batch_size / learning.step,
                "bare_images_per_second": learning.batch_size / learning.bare,
            }
        return {
            "backbone": self.recipe.backbone.name,
            "size": self.recipe.images.train_size,
            "machine": asdict(self.machine),
            **found,
            "validated": self.validated,
            "seconds": self.seconds,
            "memory": dict(self.memory),
            "tried": dict(self.tried),
            "limit": self.limit,
        }


def _limit(found: Bench) -> str:
    speed, learning = found.speed, found.speed.learning
    if learning is None:
        share = min(1.0, speed.answering.view / speed.answering.image)
        which, of = ("Pictures limit", share) if share > _HALF else ("The network limits", 1 - share)
        return f"{which} how fast answers come, with {_percent(of)} of the time; nothing is learnt step by step."
    total, reached = sum(learning.stages.values()), f"the loop reaches {_percent(learning.ratio)} of the bare step"
    waiting = learning.stages["images"] / total
    if learning.ratio < _NEARLY_ALL and waiting > _SOME:
        said = f"{_slowest(speed.pictures)}: waiting for pictures is {_percent(waiting)} of a step, and {reached}."
    elif learning.ratio < _NEARLY_ALL:
        cores = learning.batch_size * speed.pictures.prepared / learning.step
        said = f"Pictures are there in time, but {reached}; preparing them keeps {cores:.2f} of a core busy."
    else:
        stage = max(learning.stages, key=lambda one: learning.stages[one])
        most = _percent(learning.stages[stage] / total)
        said = f"The network limits training: {reached}, and {most} of a step is {stage}."
    validating = found.seconds["validating"] / sum(found.seconds.values())
    if validating > _HALF / 2:
        said += f" Validating is {_percent(validating)} of a training; train.validate_epochs=false leaves it out."
    low, high = min(learning.ratios), max(learning.ratios)
    if high - low > _BUSY:
        said += f" But rounds differ, from {_percent(low)} to {_percent(high)}: measure again while nothing else runs."
    return said


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _slowest(pictures: Pictures) -> str:
    """What holds up a picture."""
    if pictures.pixels <= pictures.augment:
        return "Augmentation limits training"
    if pictures.kept == 1:
        return "Reading pixels limits training"
    gone, way = _percent(1 - pictures.kept), "raise images.cache_gb, or free some disk space"
    if not pictures.writable:
        way = f"{cache_folder()} cannot be written; the environment variable FIELDMARK_CACHE names another folder"
    return f"Decoding limits training, since the pixels of {gone} of the images are not kept ({way})"
