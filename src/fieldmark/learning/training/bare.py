"""The bare step, which is all that a network itself needs, and which way of computing it is the fastest here.

Ways are timed in a process of its own (`python -m fieldmark.learning.training.bare`), so that neither the threads nor
the memory of a training are touched. It is given a pickled `Job` and prints a line of JSON for each change that it has
tried, so that one that never ends does not hide what was found before.
"""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from fieldmark.core.machine import Layout
from fieldmark.core.reading import parse_json
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import as_json
from fieldmark.core.wording import counted
from fieldmark.data.task import Task
from fieldmark.learning.training.compiling import Compiled
from fieldmark.learning.training.optimizer import build_optimizer, early_stages, set_learning
from fieldmark.model.batch import Batch
from fieldmark.model.build import build_model
from fieldmark.model.model import Model
from fieldmark.model.precision import autocast, memory_format

__all__ = ["WORTH", "Duel", "Job", "Way", "Workbench", "bare_step", "descend", "duels_of"]

WORTH = 1.1
"""How many times as fast another way must be; less is within what a busy machine does to a measurement."""
_ROUNDS, _MOST_IMAGES = 3, 16
_SHARE = 5.0
"""Seconds for each change, after which no further round is begun."""
_PATIENCE, _COMPILING = 90.0, 300.0
"""Seconds; and so many more where the network is compiled."""


class Way(NamedTuple):
    """How a machine may compute."""

    precision: str
    threads: int
    layout: Layout = "channels_last"
    compiled: bool = False

    def __str__(self) -> str:
        return f"{self.numbers}, {counted(self.threads, 'thread')}"

    @property
    def numbers(self) -> str:
        """Without the threads: what the last digits of a result depend on."""
        laid, made = ["contiguous"] * (self.layout == "contiguous"), ["compiled"] * self.compiled
        return ", ".join([self.precision, *laid, *made])


Change = Mapping[str, Any]
"""Fields of a `Way`, and what they would become."""


class Job(NamedTuple):
    """What is to be computed, how it would be, and what may be faster: one change after the other is tried."""

    recipe: Recipe
    task: Task
    device: str
    begin: Way
    changes: Sequence[Change]


class Duel(NamedTuple):
    """Two ways side by side, in seconds for an image."""

    best: float
    """The fastest one before."""
    other: float
    first: float
    """What the first step of the other took beyond that: compiling it."""


def descend(begin: Way, changes: Sequence[Change], is_better: Callable[[Way, Way], bool]) -> Way:
    """The fastest way: of each change, one after the other, whichever side `is_better(best, other)` takes.

    All combinations would be twice as many with each further choice, and choices hardly depend on each other.
    """
    best = begin
    for change in changes:
        if is_better(best, other := best._replace(**change)):
            best = other
    return best


def bare_step(model: Model, optimizer: Optimizer, batch: Batch, *, clip_norm: float, precision: str) -> None:
    """Forward, backward and optimiser, as anybody would write it for a batch that is there already."""
    for index in range(model.method.steps_per_batch):
        with autocast(precision, batch.images.device):
            losses = model.losses(batch, index)
        loss = torch.stack([value.float() for value in losses.values()]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()


def duels_of(job: Job, most: float = math.inf) -> list[Duel | None]:
    """What was found of the changes, one after the other, as far as it came in so many seconds at most; None for one
    that does not work here."""
    command = [sys.executable, "-m", "fieldmark.learning.training.bare"]
    patience = min(most, _PATIENCE + _COMPILING * any("compiled" in change for change in job.changes))
    try:
        told = subprocess.run(
            command, input=pickle.dumps(job), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=patience
        ).stdout
    except subprocess.TimeoutExpired as late:
        told = late.stdout or b""
    except OSError:
        return []
    found = list[Duel | None]()
    for line in told.splitlines():
        try:
            duel = parse_json(line.decode(), list[float])
            found.append(Duel(*duel) if duel else None)
        except (ValueError, TypeError):  # it was ended while it wrote
            break
    return found


def _fight(job: Job) -> None:
    """Try one change after the other, and print what was found."""
    bench = Workbench(job)

    def is_better(best: Way, other: Way) -> bool:
        duel = bench.duel(best, other)
        print(as_json(duel or []), flush=True)
        return duel is not None and duel.best >= WORTH * duel.other

    descend(job.begin, job.changes, is_better)


class Workbench:
    """A network and a batch of noise of so many images at most, which take steps in any way."""

    def __init__(self, job: Job, most: int = _MOST_IMAGES) -> None:
        recipe, self.device = job.recipe, torch.device(job.device)
        self.train, self.failed = recipe.train, list[str]()
        self.model = build_model(recipe, job.task, load_weights=False).to(self.device)
        set_learning(self.model, early=early_stages(self.model.backbone, self.train.freeze_stages), head_only=False)
        self.optimizer = build_optimizer(self.model, self.train)
        self.batch = _noise(recipe, job.task, self.model, self.device, most)
        self.faster: Compiled | None = None

    def duel(self, best: Way, other: Way) -> Duel | None:
        """The medians of some rounds, in which the two take turns, after one that warms up."""
        ways = best, other
        began = time.perf_counter()
        _, first = (self.step(way) for way in ways)
        rounds = [[self.step(way) for way in ways]]
        while len(rounds) < _ROUNDS and time.perf_counter() - began < _SHARE + first:
            rounds.append([self.step(way) for way in ways])
        if self.failed:
            return None
        before, after = np.median(rounds, axis=0).tolist()
        count = len(self.batch.rows)
        return Duel(before / count, after / count, max(0.0, first - after))

    def step(self, way: Way) -> float:
        """The seconds of a step."""
        torch.set_num_threads(way.threads)
        batch = self._laid(way.layout)
        if way.compiled and self.faster is None:
            self.faster = Compiled(self.model.backbone.model, self.failed.append)
        began = time.perf_counter()
        with self.faster.applied() if way.compiled and self.faster else nullcontext():
            bare_step(self.model, self.optimizer, batch, clip_norm=self.train.clip_norm, precision=way.precision)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began

    def _laid(self, layout: Layout) -> Batch:
        """The batch, with everything else, as it lies in this layout."""
        format = memory_format(layout)
        self.model.to(memory_format=format)
        for moments in self.optimizer.state.values():
            moments |= {key: one.contiguous(memory_format=format) for key, one in moments.items() if one.ndim == 4}
        return replace(self.batch, images=self.batch.images.contiguous(memory_format=format))


def _noise(recipe: Recipe, task: Task, model: Model, device: torch.device, most: int) -> Batch:
    """A batch with two images of each of its classes."""
    count, side = min(most, recipe.train.batch_size), model.backbone.fixed_size or recipe.images.train_size
    learnt = task.learnt
    labels = torch.tensor([[learnt[index // 2 % len(learnt)]] for index in range(count)], device=device)
    images = torch.randn(count, 3, side, side, device=device)
    rows = torch.arange(count, device=device)
    return Batch(images, labels, torch.ones(count, 1, device=device), rows)


if __name__ == "__main__":
    _fight(pickle.loads(sys.stdin.buffer.read()))
