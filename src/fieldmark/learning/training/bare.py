"""The bare step, which is all that a network itself needs, and how long it takes in each way that a machine computes.

Ways are timed in a process of its own (`python -m fieldmark.learning.training.bare`), so that neither the threads nor
the memory of a training are touched. It is given a pickled `Job` and prints a list of seconds.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from fieldmark.core.reading import parse_json
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import as_json
from fieldmark.core.wording import counted
from fieldmark.data.task import Task
from fieldmark.learning.training.optimizer import build_optimizer, early_stages, set_learning
from fieldmark.model.batch import Batch
from fieldmark.model.build import build_model
from fieldmark.model.model import Model
from fieldmark.model.precision import autocast

__all__ = ["Job", "Way", "bare_step", "seconds_of"]

_ROUNDS, _MOST_IMAGES = 3, 16
_PATIENCE = 90.0
"""Seconds."""


class Way(NamedTuple):
    """How a machine may compute."""

    precision: str
    threads: int

    def __str__(self) -> str:
        return f"{self.precision}, {counted(self.threads, 'thread')}"


class Job(NamedTuple):
    """What is to be computed, and how."""

    recipe: Recipe
    task: Task
    device: str
    ways: Sequence[Way]


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


def seconds_of(job: Job) -> list[float]:
    """What a step takes in each way, for each image of it; [] if that cannot be found out here, whatever the reason."""
    command = [sys.executable, "-m", "fieldmark.learning.training.bare"]
    try:
        done = subprocess.run(
            command, input=pickle.dumps(job), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_PATIENCE
        )
        return parse_json(done.stdout.decode(), list[float]) if done.returncode == 0 else []
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []


def _timed(job: Job) -> list[float]:
    """The medians of some rounds, in which the ways take turns, after one that warms up."""
    recipe, device = job.recipe, torch.device(job.device)
    model = build_model(recipe, job.task, load_weights=False)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    set_learning(model, early=early_stages(model.backbone, recipe.train.freeze_stages), head_only=False)
    optimizer, batch = build_optimizer(model, recipe.train), _noise(recipe, job.task, model, device)
    taken: list[list[float]] = [[] for _ in job.ways]
    for _ in range(_ROUNDS + 1):
        for way, times in zip(job.ways, taken, strict=True):
            torch.set_num_threads(way.threads)
            began = time.perf_counter()
            bare_step(model, optimizer, batch, clip_norm=recipe.train.clip_norm, precision=way.precision)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append((time.perf_counter() - began) / len(batch.images))
    return [float(np.median(times[1:])) for times in taken]


def _noise(recipe: Recipe, task: Task, model: Model, device: torch.device) -> Batch:
    """A batch with two images of each of its classes."""
    count, side = min(_MOST_IMAGES, recipe.train.batch_size), model.backbone.fixed_size or recipe.images.train_size
    learnt = [label for label in range(task.num_classes) if label not in task.unlearnt]
    labels = torch.tensor([[learnt[index // 2 % len(learnt)]] for index in range(count)], device=device)
    images = torch.randn(count, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    rows = torch.arange(count, device=device)
    return Batch(images, labels, torch.ones(count, 1, device=device), rows, 0.5, None, None)


if __name__ == "__main__":
    found = _timed(pickle.loads(sys.stdin.buffer.read()))
    print(as_json(found))
