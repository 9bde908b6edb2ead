"""How this machine computes a recipe fastest: tried for a long training, and kept for the next.

No rule would do: bf16 makes a ResNet twice as fast and an EfficientNet slower on one and the same processor. A trial
takes seconds, so only a training that computes for minutes is worth it. What came out is kept for the recipe's network
and the machine in the user's cache (<cache>/machines/<key>.json), and in the run, which goes on as it began.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.locks import lock
from fieldmark.core.machine import Machine, computes_bf16
from fieldmark.core.reading import read_json
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import as_json, cache_folder, make_folder, write_json
from fieldmark.learning.fitting.fit import Fit, schedule_of
from fieldmark.learning.training.bare import Job, Way, seconds_of
from fieldmark.model.build import build_model
from fieldmark.runs.engines import circumstances
from fieldmark.runs.facts import Tuned

__all__ = ["fastest_machine", "tuned"]

Ints = NDArray[np.int64]

_FEW = 5_000
"""Fewer images are learnt from at once."""
_PAYS = 120.0
"""So many seconds must a training compute."""
_WORTH = 1.1
"""How many times as fast another way must be; less is within what a busy machine does to a measurement."""
_BUSY = 1.25
"""The load of each core beyond which a trial would tell of other work; this process alone makes up to one."""
_GLANCE = 4
"""Images that tell about how long a training takes."""


def tuned(fit: Fit, rows: Ints) -> Fit:
    """The fit on the machine as it computes the fastest, found out once for a run that is long enough.

    A precision that the recipe names stays. Where it changes, a note says so, since the last digits change with it.
    """
    run, machine = fit.run, fit.machine
    begun = any(path.stem != "trial" for path in run.checkpoint().parent.glob("*.safetensors"))
    if begun or run.decided("tuned") is not None:
        return fit
    settled, found = fastest_machine(fit, rows)
    if found is not None:
        run.decide("tuned", found)
    if settled == machine:
        return fit
    run.settle(settled)
    if found and settled.precision != machine.precision:
        speed = found["images_per_second"]
        ratio = speed[str(_way(settled))] / speed[str(_way(machine))]
        fit.listener.note(
            f"This machine computes {fit.recipe.backbone.name} {ratio:.1f} times as fast in {settled.precision} as in "
            f"{machine.precision}, so that is used; train.precision={machine.precision} decides otherwise"
        )
    return replace(fit, machine=settled)


def fastest_machine(fit: Fit, rows: Ints, *, anew: bool = False) -> tuple[Machine, Tuned | None]:
    """The machine as it computes the fastest, and what a trial found; as it is, and None, where a trial does not pay,
    is made by another process just now, or would tell of other work beside it. With `anew`, it is tried whatever is
    known.
    """
    ways = _ways(fit.recipe, fit.machine)
    if not ways or not _pays(fit, rows) or (found := _found(fit, rows, ways, anew)) is None:
        return fit.machine, None
    way = _fastest(found, ways)
    return replace(fit.machine, precision=way.precision, threads=way.threads), found


def _way(machine: Machine) -> Way:
    return Way(machine.precision, machine.threads)


def _ways(recipe: Recipe, machine: Machine) -> list[Way]:
    """What may be faster than how it was begun, which comes first; [] if nothing is to be decided."""
    if recipe.train.solver == "logistic" or machine.device == "mps":
        return []
    open_precision = recipe.train.precision == "auto" and computes_bf16(machine.device)
    precisions = [machine.precision]
    if open_precision:
        precisions.append("fp32" if machine.precision == "bf16" else "bf16")
    # half of the threads are faster where two of them share a core
    halved = machine.device == "cpu" and machine.threads > 1 and "OMP_NUM_THREADS" not in os.environ
    threads = [machine.threads, machine.threads // 2] if halved else [machine.threads]
    ways = [Way(precision, number) for number in threads for precision in precisions]
    return ways if len(ways) > 1 else []


def _pays(fit: Fit, rows: Ints) -> bool:
    """Whether the training takes long enough, as far as a glance can tell: learning takes three times an answer."""
    schedule = schedule_of(fit.recipe, rows, fit.data.catalog.labels[rows])
    images = schedule.num_steps * schedule.batch_size * fit.recipe.train.members
    if images < _FEW:
        return False
    device = torch.device(fit.machine.device)
    model = build_model(fit.recipe, fit.task(rows), load_weights=False).to(device).eval()
    side = model.backbone.fixed_size or fit.recipe.images.train_size
    noise, taken = torch.zeros(_GLANCE, 3, side, side, device=device), list[float]()
    with torch.no_grad():
        for _ in range(3):
            began = time.perf_counter()
            model.method(noise).logits.cpu()  # a GPU has then finished
            taken.append(time.perf_counter() - began)
    return images * 3 * min(taken) / _GLANCE > _PAYS


def _found(fit: Fit, rows: Ints, ways: list[Way], anew: bool) -> Tuned | None:
    """What is known, or else what a trial finds; None if another process is at it just now."""
    task, recipe, device = fit.task(rows), fit.recipe, fit.machine.device
    step = {"batch_size", "optimizer", "freeze_stages", "clip_norm"}
    pieces = {"backbone", "neck", "method", "head", "loss", "auxiliary"}
    sections = recipe.model_dump(include=dict.fromkeys(pieces, True) | {"train": step})
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    known = [sections, recipe.images.train_size, task.num_classes, name, list(map(str, ways)), circumstances()]
    key = hashlib.sha256(as_json(known).encode()).hexdigest()[:32]
    try:
        folder = make_folder(cache_folder() / "machines")
        file = folder / f"{key}.json"
        if not anew:
            with suppress(OSError, RunError):  # none yet, or a damaged one: it is tried anew
                return read_json(file, Tuned)
        with lock(folder / ".lock", wait=False) as held:
            busy = _is_busy()
            if not held or (busy and not anew):
                return None
            found = _tried(fit, Job(recipe, task, device, ways))
            if found["images_per_second"] and not busy:
                with suppress(OSError, StorageError):  # a full disk: the next training tries again
                    write_json(file, found)
            return found
    except (OSError, StorageError):  # nothing can be kept: then every training tries
        return _tried(fit, Job(recipe, task, device, ways))


def _is_busy() -> bool:
    """Whether more wants to compute than there are cores for: then fewer threads look faster, and would stay so."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > _BUSY * (os.cpu_count() or 1)


def _tried(fit: Fit, job: Job) -> Tuned:
    began = time.perf_counter()
    with fit.listener.progress("Measuring this machine") as tick:
        tick(0, 1)
        seconds = seconds_of(job)
        tick(1, 1)
    speeds = {str(way): round(1 / each, 2) for way, each in zip(job.ways, seconds, strict=False)}
    return {"images_per_second": speeds, "took": round(time.perf_counter() - began, 1)}


def _fastest(found: Tuned, ways: list[Way]) -> Way:
    speed = found["images_per_second"]
    if not all(str(way) in speed for way in ways):  # it could not be found out
        return ways[0]
    best = max(ways, key=lambda way: speed[str(way)])
    return best if speed[str(best)] >= _WORTH * speed[str(ways[0])] else ways[0]
