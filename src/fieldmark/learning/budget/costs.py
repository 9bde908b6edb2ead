"""What things cost on this machine: a few real pictures and batches are timed.

Where the budget counts images, a picture that a network looks at costs one, whatever its size; all else is free.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fieldmark.answering.views import short_side
from fieldmark.core.errors import ImageError
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Backbone, Images, Recipe
from fieldmark.data.cache import DECODERS
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import decode
from fieldmark.data.task import Task
from fieldmark.learning.fitting.flips import num_measured
from fieldmark.learning.training.bare import Job, Way, Workbench
from fieldmark.learning.training.mirror import SIZE, mirror_features
from fieldmark.learning.training.probe import ROUGH, STRENGTHS, regression
from fieldmark.model.backbone import Backbone as Network
from fieldmark.model.backbone import rehearsed_backbone
from fieldmark.model.precision import memory_format

__all__ = ["Costs"]

_PICTURES = 12
_BATCH = 8
_TIMES = 3
_FITS_PER_STRENGTH = 2
"""Fits on two thirds of the images, three times."""
_LOADING, _SAVING = 1.5, 1.0
"""Seconds."""


@dataclass
class Costs:
    """Measured costs, in the unit of the budget."""

    machine: Machine
    in_seconds: bool
    width: int = 0
    """Of the embedding."""
    _network: dict[tuple[str, int], float] = field(default_factory=dict)
    """The network's own share of an answer."""
    _answer: dict[tuple[str, int], float] = field(default_factory=dict)
    _learning: dict[tuple[str, str, int], float] = field(default_factory=dict)
    """How many answers of the network a picture costs that it learns from, by the name of a rival recipe and the number
    of frozen stages."""
    decoding: float = 0.0
    """One picture."""
    mirroring: float = 0.0
    """One picture beside its mirror image."""
    regression: float = 0.0
    """One fit of a head, on all training images."""
    calibration: float = 2.0

    def settle(self, machine: Machine) -> None:
        """Reckon with this machine from now on: what was timed of networks on another has to be timed anew."""
        if machine != self.machine:
            self.machine = machine
            self._network.clear()
            self._learning.clear()

    def measure(self, backbone: Backbone, size: int) -> None:
        """Time how long a network takes to answer on noise of this size. Raises RecipeError if it cannot."""
        if (backbone.name, size) in self._network:
            return
        network, noise = self._built(backbone, size)
        self.width = network.width
        if not self.in_seconds:
            self._network[backbone.name, size] = self._answer[backbone.name, size] = 1.0
            return

        def answer() -> None:
            with torch.no_grad():
                network(noise).pooled.sum().item()

        self._network[backbone.name, size] = each = _seconds(answer) / _BATCH
        self._answer.setdefault((backbone.name, size), each)

    def measure_learning(self, recipe: Recipe, task: Task, *, rival: str = "") -> None:
        """Time how much longer a step of the recipe takes for a picture than its network's answer at this moment."""
        key = rival, recipe.backbone.name, recipe.train.num_frozen
        if not self.in_seconds or key in self._learning:
            return
        network, noise = self._built(recipe.backbone, recipe.images.size)
        way = Way(self.machine.precision, self.machine.threads, self.machine.layout)
        bench = Workbench(Job(recipe, task, self.machine.device, way, []), _BATCH)

        def answer() -> None:
            with torch.no_grad():
                network(noise).pooled.sum().item()

        step = min(bench.step(way) for _ in range(_TIMES)) / len(bench.batch.rows)
        self._learning[key] = max(1.2, step / (_seconds(answer) / _BATCH))

    def _built(self, backbone: Backbone, size: int) -> tuple[Network, Tensor]:
        """A network without its weights, and a batch of noise."""
        torch.set_num_threads(self.machine.threads)
        device = torch.device(self.machine.device)
        network = rehearsed_backbone(backbone, size=size)
        layout = memory_format(self.machine.layout)
        network.to(device, memory_format=layout)  # type: ignore[call-overload]  # torch's stub lacks it
        noise = torch.rand(_BATCH, 3, size, size, device=device).contiguous(memory_format=layout)
        return network, noise

    def answered(self, backbone: Backbone, size: int, each: float) -> None:
        """Take the cost of an answer from work that was done in earnest."""
        if self.in_seconds:
            self._answer[backbone.name, size] = each

    def answer(self, backbone: Backbone, size: int) -> float:
        """One picture. At a size that was not timed, it goes by the number of pixels."""
        if (known := self._answer.get((backbone.name, size))) is not None:
            return known
        near = min(
            (other for name, other in self._answer if name == backbone.name), key=lambda other: abs(other - size)
        )
        ratio = (size / near) ** 2 if self.in_seconds else 1.0
        return self._answer[backbone.name, near] * ratio

    def fitted(self, took: float, strengths: int) -> None:
        """Take the cost of a fit from a choice among so many values of C."""
        if self.in_seconds:
            self.regression = took / (1 + _FITS_PER_STRENGTH * strengths)

    def calibrated(self, took: float) -> None:
        """Take the cost of a calibration from one."""
        if self.in_seconds:
            self.calibration = took

    def decode(self, images: int) -> float:
        """So many pictures."""
        return images * self.decoding / DECODERS

    def step(self, recipe: Recipe, batch: int, *, rival: str = "") -> float:
        """One training step."""
        if not self.in_seconds:
            return batch
        backbone, size = recipe.backbone, recipe.images.size
        answer, network = self.answer(backbone, size), self._network[backbone.name, size]
        picture = max(0.0, answer - network)  # it is augmented, which takes about as long as to cut it for an answer
        learning = self._learning[rival, backbone.name, recipe.train.num_frozen]
        return batch * (picture + min(answer, network) * learning)

    def look_at(self, catalog: Catalog, images: Images) -> None:
        """Time the decoding of a few pictures."""
        rows = np.linspace(0, len(catalog) - 1, min(len(catalog), _PICTURES)).astype(int)

        def decode_some() -> None:
            for row in rows:
                try:
                    decode(catalog.file(int(row)), short_side=short_side(images))
                except ImageError:  # it is told of later
                    continue

        self.decoding = _seconds(decode_some) / len(rows) if self.in_seconds else 0.0

    def look_at_regression(self, rows: int, classes: int) -> None:
        """Time one on noise, of fewer rows and classes where there are many: what it takes grows with both."""
        if not self.in_seconds:
            return
        some, few = min(rows, 400), min(classes, 50)
        rng = np.random.default_rng(0)
        noise = rng.normal(size=(some, self.width)).astype(np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        labels = np.arange(some) % few
        took = _seconds(lambda: regression(noise, labels, _middle(), gradient=ROUGH))
        self.regression = took * max(1, rows / some) * max(1, classes / few)

    def look_at_mirrors(self) -> None:
        """Time the look at mirror images that decides about flips."""
        noise = np.random.default_rng(0).integers(0, 256, (_BATCH, 3, SIZE, SIZE), np.uint8)
        if self.in_seconds:
            self.mirroring = _seconds(lambda: mirror_features([noise])) / _BATCH

    def mirror(self, images: int, classes: int) -> float:
        """The same for as many of the training images as are looked at; a third more for the arithmetic."""
        return 4 / 3 * self.mirroring * num_measured(images, classes)

    def strengths(self, allowed: float) -> tuple[float, ...]:
        """The values of C, the middle ones first, that can be tried for so much; one at least."""
        tried = STRENGTHS["unit"]
        if not self.regression:
            return tuple(tried)
        number = int((allowed / self.regression - 1) // _FITS_PER_STRENGTH)
        number = max(1, min(len(tried), number))
        middle = len(tried) // 2
        return tuple(sorted(sorted(tried, key=lambda c: abs(tried.index(c) - middle))[:number]))

    def heads(self, strengths: int) -> float:
        """Choosing among so many values of C, and the fit by the best."""
        return self.regression * (1 + _FITS_PER_STRENGTH * strengths)

    @property
    def loading(self) -> float:
        """A network with its weights, ready to work."""
        return _LOADING if self.in_seconds else 0.0

    @property
    def finishing(self) -> float:
        """Calibration and the bundle, when all answers are known."""
        return self.calibration + _SAVING if self.in_seconds else 0.0


def _seconds(work: Callable[[], object]) -> float:
    """The least of three: the first time loads what is needed, and what disturbs one need not disturb the next. It is
    multiplied by hundreds, so a moment's trouble would refuse a budget that suffices."""
    return min(_once(work) for _ in range(_TIMES))


def _once(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return max(1e-6, time.monotonic() - began)


def _middle() -> float:
    return STRENGTHS["unit"][len(STRENGTHS["unit"]) // 2]
