"""One fit: from weights and rows to a trained model, in sessions of any length."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor

from fieldmark.answering.engine import TorchEngine
from fieldmark.answering.stream import Shown, batches, stream
from fieldmark.answering.views import evaluation_square
from fieldmark.core.errors import RunError, TrainingError
from fieldmark.core.listener import EpochEnded, Listener, StepTaken
from fieldmark.core.machine import Machine, num_decoders
from fieldmark.core.recipe import Recipe
from fieldmark.core.seeds import Stream, derive_seed
from fieldmark.core.wording import counted, duration
from fieldmark.data.cache import PixelStore
from fieldmark.data.loader import Samples, Schedule, training_batches
from fieldmark.data.task import Task
from fieldmark.evaluation.blocks import by_blocks
from fieldmark.evaluation.outputs import Outputs, joined
from fieldmark.evaluation.scaling import nll
from fieldmark.learning.fitting.curriculum import schedule_of, training_samples
from fieldmark.learning.fitting.head import fit_head
from fieldmark.learning.fitting.kept import Kept, answers_from_kept, backbone_stays, kept_views
from fieldmark.learning.fitting.lesson import begin_together
from fieldmark.learning.fitting.prepare import Prepared
from fieldmark.learning.fitting.resuming import identity_of
from fieldmark.learning.fitting.task import codes_of, task_of
from fieldmark.learning.training.batchnorm import added_layers, adopt_statistics, moving_layers, refresh_statistics
from fieldmark.learning.training.loop import Progress, progress_at, train_steps
from fieldmark.learning.training.optimizer import build_optimizer
from fieldmark.learning.training.pieces import enough_memory
from fieldmark.learning.training.setting import Lap, Setting
from fieldmark.learning.training.soup import Soup
from fieldmark.learning.training.start import Start
from fieldmark.learning.training.state import TrainingState
from fieldmark.model.build import build_model
from fieldmark.model.hub import downloading
from fieldmark.model.model import Model
from fieldmark.model.precision import memory_format
from fieldmark.runs.run import Run

__all__ = ["Fit", "Fitted", "Stopped"]

Steps = Generator[Progress, None, None]

_BATCH = 64
_PRETRAINED = "method.backbone.model."
"""How the names of weights begin that know something before the first step, whatever the head starts from."""


class Stopped(Exception):
    """The user asked to stop. Everything up to the last step is saved."""

    def __init__(self, progress: Progress, which: str = "") -> None:
        of = f" of {which}" if which else ""
        super().__init__(f"stopped after step {progress.step} of {progress.num_steps}{of}")
        self.progress = progress


class Fitted(NamedTuple):
    """The result of a fit."""

    model: Model
    strength: float | None = None
    """The C of a probe, or None if the head was learnt step by step."""


@dataclass(frozen=True)
class Fit:
    """Everything that one fit needs."""

    run: Run
    recipe: Recipe
    machine: Machine
    data: Prepared
    listener: Listener
    flip: bool = True
    """Whether training images are mirrored; see `fieldmark.learning.fitting.flips`."""
    name: str = "model"
    """The name of the fit: "model", or "fold 0" … in a cross-fit; later trainings of a soup are "member 2" …"""
    strengths: Sequence[float] | None = None
    """The values from which a probe chooses its C; None for the usual ones."""
    start: Start | None = None
    """What an older run has learnt, to begin with; None for the weights that the recipe names."""
    features: NDArray[np.float32] | None = None
    """(N, D) of the rows that are learnt from, by the weights as they are, if somebody has computed them before."""
    pace: Callable[[int], int] | None = None
    """How many steps there will be, when so many are done; None for those of the recipe. It ends a training when it
    answers the number that it was given, and the same fit goes on where another `pace` lets it."""
    num_adopted: int = 2048
    """Images whose statistics a frozen BatchNorm takes over."""
    kept: Kept = field(default_factory=Kept)
    """What backbones that stay as they are have made of pictures so far, for all fits of a command."""

    def train(self, rows: NDArray[np.int64], validation: NDArray[np.int64]) -> Fitted:
        """Learn from `rows`. If the recipe says so, `validation` is scored after each epoch, but it decides nothing."""
        torch.set_num_threads(self.machine.threads)
        torch.manual_seed(derive_seed(Stream.START, self.recipe.seed))
        with enough_memory():
            return self._train(rows, validation)

    def _train(self, rows: NDArray[np.int64], validation: NDArray[np.int64]) -> Fitted:
        recipe = self.recipe
        given = self._begun or self.start is not None
        if not given and (said := downloading(recipe.backbone)):
            self.listener.note(said)
        model = self.build(rows, load_weights=not given)
        if recipe.train.solver == "logistic":
            strength = self._fit_head(model, rows)
            return Fitted(model.eval(), strength)
        return Fitted(self._descend(model, rows, validation))

    def build(self, rows: NDArray[np.int64], *, load_weights: bool) -> Model:
        """The network for what is to be learnt from these rows, on its device, as it is before the first step."""
        model = build_model(self.recipe, self.task(rows), load_weights=load_weights)
        if self.start and not self._begun:
            self.start.give(model, self.task(rows))
        layout = memory_format(self.machine.layout)
        model.to(torch.device(self.machine.device), memory_format=layout)  # type: ignore[call-overload]  # torch's stub lacks it
        return model

    def task(self, rows: NDArray[np.int64]) -> Task:
        """The task that is to be learnt from these rows."""
        return task_of(self.data.catalog, self.recipe, rows)

    def see(self, model: Model) -> Callable[[int], Shown]:
        """A function from a row of the catalogue to what the model sees of it when it answers."""
        view = evaluation_square(self.recipe.images, model.backbone.normalization.interpolation)

        def see(row: int) -> Shown:
            decoded = self.data.pixels[row]
            return Shown(view(decoded.pixels), decoded.size)

        return see

    def outputs(
        self, model: Model, rows: NDArray[np.int64], *, precision: str = "fp32", stage: str = "Answering"
    ) -> Outputs:
        """Answer `rows` of the catalogue, in order. Raises TrainingError if the answers are not finite."""
        return joined(list(self._answers(model, rows, precision, stage)))

    def embedding(self, model: Model, rows: NDArray[np.int64], *, stage: str = "Answering") -> NDArray[np.float32]:
        """(N, D) of `rows`, alone: the logits of 100,000 images for 10,000 classes are 4 GB. Raises TrainingError."""
        found = [answered.embedding for answered in self._answers(model, rows, "fp32", stage)]
        return np.concatenate(found) if found else np.zeros((0, 0), np.float32)

    def _answers(self, model: Model, rows: NDArray[np.int64], precision: str, stage: str) -> Iterator[Outputs]:
        """For each batch of `rows`."""
        engine, see, done = TorchEngine(model, precision=precision), self.see(model), 0
        try:
            with self.listener.progress(stage) as tick:
                known = answers_from_kept(self.kept, self.recipe, engine, see, rows, self.listener, tick)
                if known is not None:
                    yield from known
                    return
                shown = stream(rows.tolist(), see, engine, batch_size=_BATCH, threads=num_decoders())
                for answered in shown:
                    assert answered.output is not None, "what cannot be read is left out beforehand"
                    yield answered.output
                    tick(done := done + len(answered.things), len(rows))
        except RunError:
            trained = self.recipe.train.solver == "gradient"
            raise TrainingError(
                "The model's outputs contain NaN or infinite values",
                "The training has diverged: start a new run with a lower train.lr and train.head_lr, or with "
                "train.clip_norm=1."
                if trained
                else "Its weights are damaged: choose others with --weights.",
            ) from None

    def _fit_head(self, model: Model, rows: NDArray[np.int64]) -> float | None:
        """Give the model the head of a probe, a logistic regression on the features as they are; return its C, or None
        for a discriminant in its place."""
        features = self.features
        if features is None:
            if self.recipe.train.batchnorm == "refreshed":
                views = batches(rows.tolist(), self.see(model), batch_size=_BATCH)
                refresh_statistics(model, map(torch.from_numpy, views), precision="fp32")
            self.listener.note(f"Computing the features of {counted(len(rows), 'image')}")
            features = self.embedding(model, rows, stage="Computing features")
        return fit_head(model, features, rows, self.recipe, self.data, self.listener, self.strengths).strength

    @property
    def member_names(self) -> list[str]:
        """Of the trainings whose weights are averaged: the fit's own name, then "member 2", "fold 0, member 2" …"""
        prefix = "" if self.name == "model" else f"{self.name}, "
        return [self.name, *(f"{prefix}member {number}" for number in range(2, self.recipe.train.members + 1))]

    @property
    def _which(self) -> str:
        """The training in the user's words; "" where there is only one."""
        if self.name == "model":
            return "member 1" if self.recipe.train.members > 1 else ""
        return self.name

    @property
    def _begun(self) -> bool:
        """Whether nothing is left to begin: each member has a checkpoint."""
        return all(self.run.checkpoint(name).is_file() for name in self.member_names)

    def _descend(self, model: Model, rows: NDArray[np.int64], validation: NDArray[np.int64]) -> Model:
        """Train by steps from where `model` stands: the members one after the other, from the same weights."""
        train = self.recipe.train
        samples, schedule = self.plan(model, rows)
        if not self._begun:
            if train.batchnorm == "frozen" and not backbone_stays(self.recipe):
                adopt_statistics(model, _some(samples, schedule, self.num_adopted))
            if train.head_start == "logistic":
                self._fit_head(model, rows)
        soup = Soup()
        for number, name in enumerate(self.member_names):
            seed = derive_seed(Stream.MEMBER, self.recipe.seed, number) if number else self.recipe.seed
            member = replace(self, name=name, recipe=self.recipe.model_copy(update={"seed": seed}))
            trained = member._learn(copy.deepcopy(model), rows, validation)
            soup.add(trained.shipped)
        shipped = soup.mean
        frozen = train.batchnorm == "frozen"
        if train.batchnorm == "refreshed" or (frozen and added_layers(shipped)):
            refresh_statistics(
                shipped,
                _some(samples, schedule, self.num_adopted),
                precision=self.machine.precision,
                trained=trained.model,
                added_only=frozen,
            )
        self.outputs(shipped, rows[: train.batch_size])  # what is shipped answers with numbers
        return shipped.eval()

    def plan(self, model: Model, rows: NDArray[np.int64]) -> tuple[Samples, Schedule]:
        """Which training images are seen when, and how."""
        recipe = self.recipe
        size = model.backbone.fixed_size or recipe.images.train_size
        interpolation = model.backbone.normalization.interpolation
        samples = training_samples(recipe, self.data, rows, flip=self.flip, size=size, interpolation=interpolation)
        return samples, schedule_of(recipe, rows, self.data.catalog.labels[rows])

    def _learn(self, model: Model, rows: NDArray[np.int64], validation: NDArray[np.int64]) -> TrainingState:
        """All steps of one training, from where `model` or its checkpoint stands."""
        train = self.recipe.train
        samples, schedule = self.plan(model, rows)
        state = self.state(model, schedule)
        state.identity = identity_of(self)
        state.pieces = pieces = self.run.decided("pieces") or 1
        path = self.run.checkpoint(self.name)
        if path.is_file():
            state.restore(path)
            if self.pace is None and state.step < schedule.num_steps:
                self.listener.note(f"Resuming after step {state.step:,} of {schedule.num_steps:,}")
            self._report_missing(state, schedule, validation)
        follow = partial(replace(self, listener=Listener(), start=None).follow, rows)
        begin_together(follow, self.machine, self.data.pixels, self.recipe.images.cache_gb, state, schedule)
        steps = self.steps(state, samples, schedule, rows)
        with self.listener.stoppable() as stop_asked, self.listener.progress(f"Training {self._which}".strip()) as tick:
            for progress in steps:
                self.listener.hear(
                    StepTaken(self.name, progress.step, progress.num_steps, progress.loss, progress.images_per_second)
                )
                tick(progress.step, progress.num_steps, note=f"{progress.images_per_second:,.0f} images/s")
                if state.pieces > pieces:
                    self._divided(pieces := state.pieces, moving=bool(moving_layers(state.model)))
                stop = stop_asked()
                if (
                    stop
                    or progress.ends_epoch
                    or (train.checkpoint_steps and progress.step % train.checkpoint_steps == 0)
                ):
                    state.save(path)
                if progress.ends_epoch:
                    self._report(state, progress, validation)
                if stop:
                    raise Stopped(progress, self._which)
            if stop_asked() and state.step:  # while the last epoch was validated: nothing that follows would ask
                raise Stopped(progress_at(state, schedule, state.step), self._which)
        return state

    def follow(self, rows: NDArray[np.int64], machine: Machine, pixels: PixelStore) -> tuple[TrainingState, Steps]:
        """For a process that does not lead: the state before the first step and the steps, on its machine and with the
        pixels that it finds there."""
        own = replace(self, machine=machine, data=replace(self.data, pixels=pixels))
        torch.set_num_threads(machine.threads)
        model = own.build(rows, load_weights=False)
        samples, schedule = own.plan(model, rows)
        state = own.state(model, schedule, leads=False)
        return state, own.steps(state, samples, schedule, rows)

    def _divided(self, pieces: int, *, moving: bool) -> None:
        """Keep, and say, that memory does not suffice for a whole batch; `moving`: BatchNorm learns from it."""
        self.run.decide("pieces", pieces)
        self.listener.note(
            f"Memory does not suffice for a batch of {counted(self.recipe.train.batch_size, 'image')}, so it is "
            f"computed in {pieces} pieces from now on, and the steps stay those of the whole batch"
            + (", but for BatchNorm, which sees one piece at a time" if moving else "")
        )

    def state(self, model: Model, schedule: Schedule, *, leads: bool = True) -> TrainingState:
        """The state before the first step; without the averages that only a process that `leads` ships."""
        train = self.recipe.train
        return TrainingState.begin(
            model,
            build_optimizer(model, train),
            ema=train.ema and leads,
            num_steps=schedule.num_steps,
            keep_start=train.keep_start if leads else 0.0,
            knows=lambda key: train.head_start == "logistic" or key.startswith(_PRETRAINED),
        )

    def steps(
        self,
        state: TrainingState,
        samples: Samples,
        schedule: Schedule,
        rows: NDArray[np.int64],
        lap: Lap = lambda stage: None,
    ) -> Steps:
        """The steps that `state` has not taken yet."""
        task = self.task(rows)
        kept = None
        if self.pace is None:  # else nobody knows how often a view would be used
            kept = kept_views(
                self.kept, self.recipe, self.machine, state, samples, schedule, self.listener, flip=self.flip
            )
        setting = Setting(
            self.recipe,
            self.machine,
            attributes=torch.from_numpy(codes_of(self.data.catalog, task)) if task.attributes else None,
            weights=None if self.data.weights is None else torch.from_numpy(self.data.weights),
            keeper=kept.keeper if kept else None,
            pace=self.pace,
            tell=self.listener.note,
            lap=lap,
        )
        return train_steps(state, kept or samples, schedule, setting)

    def _report(self, state: TrainingState, progress: Progress, validation: NDArray[np.int64]) -> None:
        """Tell of the epoch that has just ended, as numbers and in a line."""
        epochs, speed = progress.epochs, progress.images_per_second
        metrics = {"loss": progress.loss, "seconds": state.seconds, "images_per_second": speed}
        text = f"{self._which}  epoch {progress.epoch + 1}/{epochs}  loss {progress.loss:.3f}".lstrip()
        if len(validation) and self.recipe.train.validate_epochs:
            metrics |= self._validated(state, validation)
            text += f"  validation {100 * metrics['val_top1']:.1f} %"
        self.listener.hear(EpochEnded(self.name, progress.epoch + 1, epochs, progress.step, metrics))
        text += f"  {speed:,.0f} images/s"
        if left := progress.num_steps - progress.step:
            text += f"  {duration(left * self.recipe.train.batch_size / speed)} left"
        self.listener.note(text)

    def _report_missing(self, state: TrainingState, schedule: Schedule, validation: NDArray[np.int64]) -> None:
        """Tell of an epoch that has ended in a sitting that was killed before it had told so."""
        num_steps = self.pace(state.step) if self.pace else schedule.num_steps
        if not state.step or not (ended := progress_at(state, schedule, num_steps)).ends_epoch:
            return
        if (self.name, ended.step) not in {(line["fit"], line["step"]) for line in self.run.history()}:
            self._report(state, ended, validation)

    def _validated(self, state: TrainingState, rows: NDArray[np.int64]) -> dict[str, float]:
        """How good what would ship now is on validation images."""
        start = time.monotonic()
        logits = self.outputs(state.shipped, rows, precision=self.machine.precision, stage="Validating").logits
        labels = self.data.catalog.labels[rows]
        learnt = np.isin(labels, self.data.catalog.labels[self.data.learnt(self.recipe)])
        return {
            "validation_seconds": time.monotonic() - start,
            "val_top1": float((logits.argmax(1) == labels).mean()),
            "val_nll": float(by_blocks(_nll, logits[learnt], labels[learnt]).mean()) if learnt.any() else math.nan,
        }


def _nll(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.floating]:
    """(N,) the negative log-likelihood of each image, of logits that are not calibrated."""
    return nll(log_softmax(logits, axis=1), labels)


def _some(samples: Samples, schedule: Schedule, num_images: int) -> Iterator[Tensor]:
    """Batches of training images as they look in training, in an order of their own."""
    num_steps = max(1, min(schedule.steps_per_epoch, num_images // schedule.batch_size))
    once = replace(schedule, epochs=1, seed=derive_seed(Stream.STATISTICS, schedule.seed))
    return (batch.images for batch in islice(training_batches(samples, once), num_steps))
