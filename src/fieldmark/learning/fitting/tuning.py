"""How this machine computes a recipe fastest: tried for a long training, and kept for the next.

No rule would do: bf16 makes a ResNet twice as fast and an EfficientNet slower on one and the same processor. A trial
takes seconds, so only a training that computes for minutes is worth it. What came out is kept for the recipe's network
and the machine in the user's cache (<cache>/machines/<key>.json), and in the run, which goes on as it began.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.locks import lock
from fieldmark.core.machine import Machine, computes_bf16, num_cores
from fieldmark.core.ranks import size
from fieldmark.core.reading import read_json
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import as_json, cache_folder, make_folder, write_json
from fieldmark.learning.fitting.curriculum import schedule_of
from fieldmark.learning.fitting.fit import Fit
from fieldmark.learning.fitting.kept import steps_are_small
from fieldmark.learning.fitting.trial import TRIAL
from fieldmark.learning.training.bare import WORTH, Change, Duel, Job, Way, descend, duels_of
from fieldmark.learning.training.compiling import has_compiler
from fieldmark.model.build import build_model
from fieldmark.runs.engines import circumstances
from fieldmark.runs.facts import Tuned

__all__ = ["fastest_machine", "num_workers", "tuned"]

Ints = NDArray[np.int64]

_FEW = 5_000
"""Fewer images are learnt from at once."""
_PAYS = 120.0
"""So many seconds must a training compute."""
_COMPILES = {"cpu": 3600.0, "cuda": 600.0}
"""So many before the network is compiled on trial: that alone takes up to minutes."""
_BUSY = 1.25
"""The load of each core beyond which a trial would tell of other work; this process alone makes up to one."""
_TRYING = 1 / 8
"""The share of a budget's time that a trial may take."""
_LOOKED_AT = 4
"""Images that tell about how long a training takes."""
_ENOUGH = 0.4
"""The share of a core that a thread has beside the network, as both want the interpreter."""


class _Estimate(NamedTuple):
    """What a training is about to take."""

    images: int
    """That are learnt from, each as often as it is."""
    learning: float
    """Seconds of the network for one of them: learning takes three times an answer."""
    preparing: float
    """Seconds of a core until it is in memory, as it is learnt from."""

    @property
    def seconds(self) -> float:
        return self.images * self.learning


def tuned(fit: Fit, rows: Ints, *, images: int | None = None, seconds: float = math.inf) -> Fit:
    """The fit on the machine as it computes the fastest, found out once for a run that is long enough.

    A precision that the recipe names stays. Where it changes, a note says so, since the last digits change with it.
    Within a budget, so many `images` are learnt from, or what fits into so many `seconds`, of which a trial takes a
    share at most; where they are too few for a trial, what an earlier one found is used.
    """
    run, machine = fit.run, fit.machine
    trials = replace(fit, name=TRIAL).member_names
    begun = any(path.stem not in trials for path in run.checkpoint().parent.glob("*.safetensors"))
    if begun or run.decided("tuned") is not None:
        return fit
    settled, found = fastest_machine(fit, rows, images=images, seconds=seconds)
    if found is not None:
        run.decide("tuned", found)
    if settled == machine:
        return fit
    run.settle(settled)
    way, before = _way(settled), _way(machine)
    if found and way.numbers != before.numbers:
        speed = found["images_per_second"]
        otherwise = [f"train.precision={before.precision}"] if way.precision != before.precision else []
        otherwise += ["train.compile=false"] if way.compiled else []
        hint = f"; {' and '.join(otherwise)} decide{'s' * (len(otherwise) == 1)} otherwise" if otherwise else ""
        ratio = speed[str(way)] / speed[str(before)]
        fit.listener.note(
            f"This machine computes {fit.recipe.backbone.name} {ratio:.1f} times as fast in {way.numbers} as in "
            f"{before.numbers}, so that is used{hint}"
        )
    return replace(fit, machine=settled)


def fastest_machine(
    fit: Fit, rows: Ints, *, images: int | None = None, seconds: float = math.inf, anew: bool = False
) -> tuple[Machine, Tuned | None]:
    """The machine as it computes the fastest, and what a trial found; as it is, and None, where a trial does not pay,
    is made by another process just now, or would tell of other work beside it. With `anew`, it is tried whatever is
    known. `images` and `seconds` are as in `tuned`.
    """
    if fit.recipe.train.solver == "logistic" or fit.machine.device == "mps":
        return fit.machine, None
    if seconds < _PAYS and not _is_known(fit, rows, seconds):
        return fit.machine, None
    estimate = _estimated(fit, rows, images, seconds)
    if estimate.seconds < min(_PAYS, seconds):
        return fit.machine, None
    begin, changes = _way(fit.machine), _changes(fit.recipe, fit.machine, estimate.seconds)
    if (found := _found(fit, rows, begin, changes, anew, seconds)) is None:
        return fit.machine, None
    way = _fastest(found, begin, changes, estimate.images)
    machine = replace(fit.machine, **way._asdict())
    if speed := found["images_per_second"].get(str(way)):
        workers = num_workers(estimate.preparing * speed, num_cores(), gpu=machine.device.startswith("cuda"))
        machine = replace(machine, workers=workers)
    return machine, found


def num_workers(busy: float, cores: int, *, gpu: bool) -> int:
    """How many processes prepare images in time, if that keeps so many cores `busy`; 0 where a thread does."""
    if busy <= (_ENOUGH / 2 if gpu else _ENOUGH) or cores <= 2:  # a GPU waits for the interpreter at every layer
        return 0
    return min(cores - 1, math.ceil(1.25 * busy))


def _way(machine: Machine) -> Way:
    return Way(machine.precision, machine.threads, machine.layout, machine.compiled)


def _changes(recipe: Recipe, machine: Machine, seconds: float) -> list[Change]:
    """What may make a training of so many seconds faster, on a machine of this kind."""
    train, kind = recipe.train, machine.device.partition(":")[0]
    found: list[Change] = []
    if train.precision == "auto" and computes_bf16(machine.device):
        found.append({"precision": "fp32" if machine.precision == "bf16" else "bf16"})
    if kind == "cpu" and machine.threads > 1 and "OMP_NUM_THREADS" not in os.environ:
        found.append({"threads": machine.threads // 2})  # they are faster where two of them share a core
    found.append({"layout": "contiguous" if machine.layout == "channels_last" else "channels_last"})
    exchanges = size() > 1 and train.batchnorm != "frozen"  # in the middle of the network
    if train.compile == "auto" and seconds > _COMPILES[kind] and not exchanges and has_compiler(kind):
        found.append({"compiled": True})  # last: whether it is worth it depends on the length of a training, too
    return found


def _estimated(fit: Fit, rows: Ints, images: int | None = None, seconds: float = math.inf) -> _Estimate:
    """As far as a few images can tell."""
    schedule = schedule_of(fit.recipe, rows, fit.data.catalog.labels[rows])
    images = images or schedule.num_steps * schedule.step_size * fit.recipe.train.members
    if images < _FEW or steps_are_small(fit.recipe, schedule.views):
        return _Estimate(images, 0.0, 0.0)
    model = build_model(fit.recipe, fit.task(rows), load_weights=False).to(torch.device(fit.machine.device)).eval()
    samples, _ = fit.plan(model, rows)
    keys = schedule.batch(0)[:_LOOKED_AT]
    seen = torch.stack([samples[key][0] for key in keys])
    began = time.perf_counter()
    for key in keys:
        samples[key]
    preparing = (time.perf_counter() - began) / len(keys)
    noise, taken = model.backbone.normalization(seen.to(fit.machine.device)), list[float]()
    with torch.no_grad():
        for _ in range(3):
            began = time.perf_counter()
            model.method(noise).logits.cpu()  # a GPU has then finished
            taken.append(time.perf_counter() - began)
    learning = 3 * min(taken) / len(keys)
    return _Estimate(images if images * learning <= seconds else math.ceil(seconds / learning), learning, preparing)


def _file(fit: Fit, rows: Ints, begin: Way, changes: list[Change]) -> Path:
    """Where it is kept what a trial found. Raises OSError or StorageError where nothing can be kept."""
    recipe, device = fit.recipe, fit.machine.device
    step = {"batch_size", "optimizer", "freeze_stages", "clip_norm"}
    pieces = {"backbone", "neck", "method", "head", "loss", "auxiliary"}
    sections = recipe.model_dump(include=dict.fromkeys(pieces, True) | {"train": step})
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    classes = fit.task(rows).num_classes
    known = [sections, recipe.images.train_size, classes, name, str(begin), changes, circumstances()]
    key = hashlib.sha256(as_json(known).encode()).hexdigest()[:32]
    return make_folder(cache_folder() / "machines") / f"{key}.json"


def _is_known(fit: Fit, rows: Ints, seconds: float) -> bool:
    """Whether there was a trial for a training of so many seconds."""
    with suppress(OSError, StorageError):
        return _file(fit, rows, _way(fit.machine), _changes(fit.recipe, fit.machine, seconds)).is_file()
    return False


def _found(fit: Fit, rows: Ints, begin: Way, changes: list[Change], anew: bool, seconds: float) -> Tuned | None:
    """What is known, or else what a trial finds; None if another process is at it just now, and if there are too few
    `seconds` for one."""
    job, most = Job(fit.recipe, fit.task(rows), fit.machine.device, begin, changes), _TRYING * seconds
    try:
        file = _file(fit, rows, begin, changes)
        if not anew:
            with suppress(OSError, RunError):  # none yet, or a damaged one: it is tried anew
                return read_json(file, Tuned)
        if seconds < _PAYS:
            return None
        with lock(file.parent / ".lock", wait=False) as held:
            busy = _is_busy()
            if not held or (busy and not anew):
                return None
            found, whole = _tried(fit, job, most)
            if found["images_per_second"] and whole and not busy:
                with suppress(OSError, StorageError):  # a full disk: the next training tries again
                    write_json(file, found)
            return found
    except (OSError, StorageError):  # nothing can be kept: then every training tries
        return _tried(fit, job, most)[0]


def _is_busy() -> bool:
    """Whether more wants to compute than there are cores for: then fewer threads look faster, and would stay so."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > _BUSY * (os.cpu_count() or 1)


def _tried(fit: Fit, job: Job, most: float) -> tuple[Tuned, bool]:
    """What is found within so many seconds, and whether it is all that more of them would have found."""
    began = time.perf_counter()
    with fit.listener.progress("Measuring this machine") as tick:
        tick(0, 1)
        duels = duels_of(job, most)
        tick(1, 1)
    took = time.perf_counter() - began
    return _tuned(job.begin, job.changes, duels, took), len(duels) == len(job.changes) or took < most


def _tuned(begin: Way, changes: Sequence[Change], duels: Sequence[Duel | None], took: float) -> Tuned:
    """What duels say of each way's speed. Neighbours were disturbed alike, so a speed follows from the one before."""
    speed: dict[str, float] = {}
    found: Tuned = {"images_per_second": speed, "took": round(took, 1)}
    told = iter(duels)

    def is_better(best: Way, other: Way) -> bool:
        if (duel := next(told, None)) is None:
            return False
        before = speed.setdefault(str(best), round(1 / duel.best, 2))
        speed[str(other)] = round(before * duel.best / duel.other, 2)
        if other.compiled:
            found["compiling"] = round(duel.first, 1)
        return duel.best >= WORTH * duel.other

    descend(begin, changes, is_better)
    return found


def _fastest(found: Tuned, begin: Way, changes: Sequence[Change], images: int) -> Way:
    """The way in which so many images take the shortest time; compiling takes some of it."""
    speed = found["images_per_second"]

    def is_better(best: Way, other: Way) -> bool:
        if str(best) not in speed or str(other) not in speed:  # it could not be found out
            return False
        lost = found.get("compiling", 0.0) if other.compiled and not best.compiled else 0.0
        return images / speed[str(best)] >= WORTH * (lost + images / speed[str(other)])

    return descend(begin, changes, is_better)
