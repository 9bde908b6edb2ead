"""How fast a fit learns and answers on this machine, and where its time goes: its own loop, on its own pictures.

The measure is the bare step: forward, backward and optimiser on a batch in memory, which is all that the network itself
needs. Bare steps and the loop take turns in one process, so that whatever else the machine does disturbs both alike.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.answering.engine import TorchEngine
from fieldmark.answering.stream import batches
from fieldmark.core.listener import Listener, Tick
from fieldmark.data.decode import decode
from fieldmark.data.loader import Samples, Schedule
from fieldmark.learning.fitting.fit import Fit
from fieldmark.learning.training.bare import bare_step
from fieldmark.learning.training.batchnorm import adopt_statistics
from fieldmark.model.batch import Batch
from fieldmark.model.model import Model

__all__ = ["Answering", "Learning", "Pictures", "Speed", "measured_speed"]

Ints = NDArray[np.int64]

_LEAST_ROUNDS, _ROUNDS = 3, 7
_MOST = 50
"""Steps of one kind in a row, at most."""
_BATCHES = 4
"""Of images that are learnt from where stages are frozen."""
_FILES, _ANSWERED = 16, 128
"""Images that are decoded from their files, and that are answered."""


@final
@dataclass(frozen=True)
class Learning:
    """Steps of a training."""

    batch_size: int
    num_steps: int
    """Of the whole training."""
    num_epochs: int
    num_timed: int
    step: float
    """Seconds of one step of the loop; the median over rounds."""
    ratios: tuple[float, ...]
    """bare / step of each round: what the loop reaches of what the network alone would do."""
    stages: Mapping[str, float]
    """Seconds of a step that each stage of the loop takes, in medians over rounds, which need not add up to `step`; see
    `fieldmark.learning.training.loop.Lap`."""

    @property
    def ratio(self) -> float:
        """The median over rounds."""
        return float(np.median(self.ratios))

    @property
    def bare(self) -> float:
        """Seconds of one bare step, by `ratio`: neighbours are disturbed alike, and two medians need not be."""
        return self.step * self.ratio


@final
@dataclass(frozen=True)
class Answering:
    """Answers for held-out images, as after each epoch."""

    image: float
    """Seconds for one image, from its pixels to its answer."""
    view: float
    """Of these, what it takes to read the pixels and cut out what the network sees."""


@final
@dataclass(frozen=True)
class Pictures:
    """What it takes to prepare one training image, in seconds of one core."""

    file: float
    """Decoding its file, which is done once where pixels are kept."""
    pixels: float
    """Reading its pixels, or decoding it again where they are not kept."""
    augment: float
    """Everything from there to the view that is learnt from."""
    kept: float
    """The share of training images whose pixels are kept."""
    writable: bool = True
    """Whether the cache can be written, where pixels would be kept."""

    @property
    def prepared(self) -> float:
        """From its pixels to its view."""
        return self.pixels + self.augment


@final
@dataclass(frozen=True)
class Speed:
    """How fast a fit is on this machine."""

    pictures: Pictures
    answering: Answering
    learning: Learning | None
    """None for a recipe that takes no steps, such as a probe."""


def measured_speed(fit: Fit, rows: Ints, *, seconds: float = 20.0, listener: Listener | None = None) -> Speed:
    """Take some steps of the loop, and answer some of these training `rows`, for about so many seconds.

    Nothing is written, and the steps change nothing: their rates are zero. Raises TrainingError as the loop does.
    """
    listener = listener or Listener()
    torch.set_num_threads(fit.machine.threads)
    recipe = fit.recipe.model_copy(update={"train": fit.recipe.train.model_copy(update={"lr": 0.0, "head_lr": 0.0})})
    fit = replace(fit, recipe=recipe, listener=Listener())
    model = fit.build(rows, load_weights=True)
    samples, schedule = fit.plan(model, rows)
    pictures = _pictures(fit, samples, schedule)
    learning = None
    if recipe.train.solver != "logistic":
        with listener.progress("Measuring steps") as tick:
            tick(0, _LEAST_ROUNDS)  # the first round comes after steps that are not timed
            some = _few(schedule) if recipe.train.freeze_stages else schedule
            steps = _learning(fit, model, samples, some, rows, seconds, tick)
            learning = replace(steps, num_steps=schedule.num_steps, num_epochs=schedule.epochs)
    with listener.progress("Measuring answers") as tick:
        tick(0, 1)
        answering = _answering(fit, model, rows)
        tick(1, 1)
    return Speed(pictures, answering, learning)


def _few(schedule: Schedule) -> Schedule:
    """The same for fewer images: what is frozen is computed for all of them before the first step."""
    few = slice(_BATCHES * schedule.batch_size)
    return replace(schedule, rows=schedule.rows[few], labels=None if schedule.labels is None else schedule.labels[few])


class _Stopwatch:
    """Adds up what lies between two laps, by the name of the second. A GPU is waited for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self.seconds: dict[str, float] = defaultdict(float)
        self._last = _now(self._device)

    def __call__(self, stage: str) -> None:
        now = _now(self._device)
        self.seconds[stage] += now - self._last
        self._last = now


def _now(device: torch.device) -> float:
    """The time, once everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def _pictures(fit: Fit, samples: Samples, schedule: Schedule) -> Pictures:
    """What the images of the first steps of the second epoch take; afterwards, the system has read them once."""
    store, keys = fit.data.pixels, next(schedule.batches(0))
    for key in keys:
        samples[key]
    files = [row for _, row in keys][:_FILES]
    began = time.perf_counter()
    for row in files:
        decode(store.catalog.file(row), short_side=store.side, grey_bits=store.grey_bits)
    file = (time.perf_counter() - began) / len(files)
    began = time.perf_counter()
    for _, row in keys:
        store[row]
    pixels = (time.perf_counter() - began) / len(keys)
    began = time.perf_counter()
    for key in keys:
        samples[key]
    whole = (time.perf_counter() - began) / len(keys)
    return Pictures(
        file, pixels, max(0.0, whole - pixels), float(store.cached[schedule.rows].mean()), store.file is not None
    )


def _answering(fit: Fit, model: Model, rows: Ints) -> Answering:
    """A batch of images, as validation answers them."""
    some, see, device = rows[:_ANSWERED], fit.see(model), next(model.parameters()).device
    engine = TorchEngine(model, precision=fit.machine.precision)
    began = _now(device)
    views = np.concatenate(list(batches(some.tolist(), see, batch_size=_ANSWERED)))
    view = (_now(device) - began) / len(some)
    engine(views[:2])  # the first answer of a network is slow
    began = _now(device)
    fit.outputs(model, some, precision=fit.machine.precision)
    return Answering((_now(device) - began) / len(some), view)


def _learning(
    fit: Fit,
    model: Model,
    samples: Samples,
    schedule: Schedule,
    rows: Ints,
    seconds: float,
    tick: Tick,
) -> Learning:
    """Bare steps and steps of the loop in turns, from the second epoch on and once everything learns."""
    train, device = fit.recipe.train, next(model.parameters()).device
    if train.batchnorm == "frozen":  # as before the first step: random weights need it to give numbers
        adopt_statistics(model, (torch.stack([samples[key][0] for key in keys]) for keys in [schedule.batch(0)]))
    ahead = 1 + 2 * fit.machine.workers
    """Steps that are not timed: their images were not prepared meanwhile, or all at once."""
    first = max(1, train.head_epochs) * schedule.steps_per_epoch
    epochs = 2 * max(1, train.head_epochs) + 1 + (ahead + _MOST) // schedule.steps_per_epoch
    state = fit.state(model, longer := replace(schedule, epochs=max(schedule.epochs, epochs)))

    def loop(count: int, watch: _Stopwatch | None = None) -> float:
        state.step = first
        lap = watch or (lambda stage: None)
        with closing(fit.steps(state, samples, longer, rows, lap)) as steps:
            for _ in islice(steps, ahead):
                pass
            if watch is not None:
                watch.start()
            began = _now(device)
            for _ in islice(steps, count):
                pass
            return (_now(device) - began) / count

    def bare(count: int) -> float:
        began = _now(device)
        for _ in range(count):
            bare_step(model, state.optimizer, batch, clip_norm=train.clip_norm, precision=fit.machine.precision)
        return (_now(device) - began) / count

    with _remembered(model) as seen:
        loop(1)
    batch = seen[-1]
    bare(1)
    once = bare(1)
    rounds = max(_LEAST_ROUNDS, min(_ROUNDS, int(seconds / (2 + ahead) / once)))
    count = max(1, min(_MOST, int((seconds / rounds / once - ahead) / 2)))
    turns: list[tuple[float, float]] = []
    stages: list[dict[str, float]] = []
    began = time.perf_counter()
    for number in range(rounds):
        watch = _Stopwatch(device)
        # a GPU is held up where its stages are told apart
        taken = watch if device.type == "cpu" else None
        turns.append((bare(count), loop(count, taken)) if number % 2 else (loop(count, taken), bare(count))[::-1])
        if taken is None:
            loop(count, watch)
        stages.append({stage: spent / count for stage, spent in watch.seconds.items()})
        tick(number + 1, rounds)
        if number + 1 >= _LEAST_ROUNDS and time.perf_counter() - began > seconds:  # the machine became busier
            break
    tick(rounds, rounds)
    bares, loops = np.array(turns).T
    return Learning(
        schedule.step_size,
        schedule.num_steps,
        schedule.epochs,
        len(turns) * count,
        float(np.median(loops)),
        tuple((bares / loops).tolist()),
        {stage: float(np.median([each[stage] for each in stages])) for stage in stages[0]},
    )


@contextmanager
def _remembered(model: Model) -> Iterator[list[Batch]]:
    """While this lasts, the batches that the model learns from are kept."""
    seen, losses = list[Batch](), model.losses

    def remembering(batch: Batch, step: int) -> dict[str, Tensor]:
        seen.append(batch)
        return losses(batch, step)

    model.losses = remembering  # type: ignore[method-assign]  # put back below
    try:
        yield seen
    finally:
        del model.losses
