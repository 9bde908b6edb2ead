"""The training loop: a generator that yields after every chunk of steps; the caller evaluates, saves, logs or stops.

One step is a pure function of the state and the step's number: every generator is re-seeded from
(seed, step), so a run that is taken up anywhere ends with the same weights. Where several processes train together
(`core/ranks.py`), all of them run this loop, and a step of theirs is the step of the whole batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from fieldmark.answering.pieces import Pieces
from fieldmark.augment.mixing import mix
from fieldmark.core.errors import TrainingError
from fieldmark.core.ranks import gathered, rank, share, size, summed, together
from fieldmark.core.recipe import NONE
from fieldmark.core.seeds import Stream, derive_seed
from fieldmark.data.loader import Sampled, Schedule, Source, training_batches
from fieldmark.learning.training.batchnorm import freeze_statistics
from fieldmark.learning.training.compiling import Compiled
from fieldmark.learning.training.optimizer import early_stages, set_learning, set_rates
from fieldmark.learning.training.pieces import gradients
from fieldmark.learning.training.setting import Setting
from fieldmark.learning.training.sharing import add_gradients
from fieldmark.learning.training.state import TrainingState
from fieldmark.model.batch import Batch
from fieldmark.model.model import Model
from fieldmark.model.precision import autocast, memory_format

__all__ = ["Progress", "progress_at", "train_steps"]


@dataclass(frozen=True)
class Progress:
    """The progress of a training after a step."""

    step: int
    num_steps: int
    epoch: int
    """The current epoch, counted from 0."""
    epochs: int
    loss: float
    """The mean loss since the epoch began."""
    images_per_second: float
    ends_epoch: bool


def progress_at(
    state: TrainingState, schedule: Schedule, num_steps: int, *, images_per_second: float | None = None
) -> Progress:
    """The progress after the steps that `state` has taken, at least one; by default with the speed of all of them."""
    done, length = state.step, schedule.steps_per_epoch
    return Progress(
        step=done,
        num_steps=num_steps,
        epoch=(done - 1) // length,
        epochs=math.ceil(num_steps / length),
        loss=state.sums["loss"] / ((done - 1) % length + 1),
        images_per_second=images_per_second or done * schedule.step_size / state.seconds,
        ends_epoch=done % length == 0 or done >= num_steps,
    )


def train_steps(
    state: TrainingState, samples: Source, schedule: Schedule, setting: Setting
) -> Generator[Progress, None, None]:
    """Take the steps that `state` has not taken yet, and yield after each. `state` is consistent at every yield.

    Raises TrainingError if a loss is not finite.
    """
    recipe, machine, lap = setting.recipe, setting.machine, setting.lap
    model, train, compiled = state.model, recipe.train, machine.compiled
    if compiled and size() > 1 and train.batchnorm != "frozen":
        compiled = False
        setting.tell("The network is not compiled, since its BatchNorm needs the other processes in the middle of it")
    # what was kept goes by way of modules that answer for themselves, which a compiler would take for constants
    plain = not compiled or setting.keeper is not None
    faster = nullcontext if plain else Compiled(model.backbone.model, setting.tell).applied
    head_steps = min(train.head_epochs, schedule.epochs // 2) * schedule.steps_per_epoch
    early = early_stages(model.backbone, train.freeze_stages)
    set_learning(model, early=early, head_only=False)  # known to what follows even where no step is left to take
    sitting, first = time.monotonic(), state.step
    pace = setting.pace or (lambda step: schedule.num_steps)
    num_steps = pace(first)
    batches = training_batches(samples, schedule, first_step=state.step, workers=machine.workers, share=share)
    for sampled in together(batches):
        if state.step >= num_steps:
            return
        if state.step % schedule.steps_per_epoch == 0:
            state.sums = {}
        start = time.monotonic()
        lap("images")
        batch = _batch(state, sampled, setting)
        set_learning(model, early=early, head_only=state.step < head_steps)
        if train.batchnorm == "frozen":
            freeze_statistics(model)
        set_rates(state.optimizer, state.step, head_steps=head_steps, num_steps=num_steps, train=train)
        own = [rank()] if rank() else []  # dropout of its own for each process
        torch.manual_seed(derive_seed(Stream.STEP, recipe.seed, state.step, *own))
        lap("batch")
        weight = len(sampled.rows) / schedule.step_size
        with faster():
            loss = _step(state, batch, weight, setting)
        if state.ema is not None:
            state.ema.update_parameters(model)
        lap("rest")
        state.step += 1
        state.seconds += time.monotonic() - start
        state.sums["loss"] = state.sums.get("loss", 0.0) + loss
        done, num_steps = state.step - first, pace(state.step)
        speed = done * schedule.step_size / (time.monotonic() - sitting)
        yield progress_at(state, schedule, num_steps, images_per_second=speed)


def _step(state: TrainingState, batch: Batch, weight: float, setting: Setting) -> float:
    """All optimiser steps that one batch deserves; returns the summed loss. The `weight` is the share of the batch that
    this process has."""
    total = 0.0
    for index in range(state.model.method.steps_per_batch):
        terms = gradients(state, batch, index, weight, setting)
        told = summed(torch.stack(list(terms.values())))
        if not math.isfinite(value := told.sum().item()):
            bad = ", ".join(name for name, term in zip(terms, told.tolist(), strict=True) if not math.isfinite(term))
            raise TrainingError(
                f"The loss became {value} at step {state.step + 1} ({bad or 'their sum'})",
                "Checkpoints saved before are intact. Lower train.lr and train.head_lr, or set train.clip_norm=1.",
            )
        add_gradients(state.model)
        setting.lap("backward")
        if clip_norm := setting.recipe.train.clip_norm:
            nn.utils.clip_grad_norm_(state.model.parameters(), clip_norm)
        state.optimizer.step()
        setting.lap("optimiser")
        total += value
    return total


def _batch(state: TrainingState, sampled: Sampled, setting: Setting) -> Batch:
    """Normalise, then mix. May leave the model in evaluation mode.

    Partners are drawn from the whole batch, so every process mixes all of it and keeps its share. What was kept of
    images is not mixed.
    """
    model, recipe = state.model, setting.recipe
    device = next(model.parameters()).device
    weights = torch.ones(len(sampled.rows)) if setting.weights is None else setting.weights[sampled.rows]
    boxes, keypoints = (None if one is None else one.to(device) for one in (sampled.boxes, sampled.keypoints))
    attributes = None if setting.attributes is None else setting.attributes[sampled.rows].to(device)
    rest = sampled.rows.to(device), boxes, keypoints, attributes
    if (keeper := setting.keeper) is not None:
        labels, weights = sampled.labels.to(device).unsqueeze(1), weights.to(device).unsqueeze(1)
        return Batch(keeper.known(sampled.images, device), labels, weights, *rest)
    seen = sampled.images.to(device), sampled.labels.to(device).unsqueeze(1), weights.to(device).unsqueeze(1)
    mixes = recipe.augment.mix != NONE
    images, labels, weights = map(gathered, seen) if mixes else seen
    images, labels, weights = mix(
        model.backbone.normalization(images),
        labels,
        weights,
        kind=recipe.augment.mix,
        alphas=recipe.augment.mix_alpha,
        probability=recipe.augment.mix_probability,
        generator=torch.Generator().manual_seed(derive_seed(Stream.MIX, recipe.seed, state.step)),
        class_maps=partial(_class_maps, model, setting.machine.precision),
    )
    if mixes:
        images, labels, weights = (one[share(len(one))] for one in (images, labels, weights))
    return Batch(images.contiguous(memory_format=memory_format(setting.machine.layout)), labels, weights, *rest)


def _class_maps(model: Model, precision: str, images: Tensor, labels: Tensor) -> Tensor:
    """(B, h, w) as the model answers: in evaluation mode, which moves no statistics. Each process makes its share."""

    def maps(rows: Tensor) -> Tensor:
        with torch.no_grad(), autocast(precision, images.device):
            found = model.method.class_maps(images[rows], labels[rows])
        assert found is not None, "such a recipe is refused before it begins"
        return found

    model.eval()
    own = torch.arange(len(images), device=images.device)[share(len(images))]
    return gathered(Pieces(maps, lambda pieces: torch.cat(list(pieces)))(own))
