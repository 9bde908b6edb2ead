"""One training in which several processes take part: what the first one sends to the others.

Only the first has the run, the user and the last word. The others get its fit, in which a listener hears nothing, and
its weights, and take the same steps (`core/ranks.py`).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fieldmark.core.errors import DataError, DeviceError, FieldmarkError, RecipeError
from fieldmark.core.listener import Listener
from fieldmark.core.ranks import assemble, settle_device, size, spread, told
from fieldmark.core.wording import counted, first_few
from fieldmark.data.cache import PixelStore, build_store
from fieldmark.data.loader import Schedule
from fieldmark.learning.training.state import TrainingState

if TYPE_CHECKING:
    from fieldmark.learning.fitting.fit import Fit

__all__ = ["begin_together"]

Ints = NDArray[np.int64]


def begin_together(fit: Fit, state: TrainingState, schedule: Schedule, rows: Ints) -> None:
    """Have the other processes, if there are any, stand where `state` does, ready to take its steps.

    Raises RecipeError or DeviceError if the work cannot be divided, and DataError if one of them has other pictures.
    """
    if size() == 1:
        return
    if schedule.step_size < size():
        raise RecipeError(
            f"A batch of {counted(schedule.step_size, 'image')} cannot be shared by {size()} processes",
            "Raise train.batch_size if there are enough training images, or start fewer processes.",
        )
    if ":" in fit.machine.device:
        raise DeviceError(
            f"{fit.machine.device} is one device, and {size()} processes are to train on one each",
            "Leave out its number; the environment variable CUDA_VISIBLE_DEVICES says which ones are used.",
        )
    prints = fit.data.pixels.fingerprints.digests
    silent = replace(fit, listener=Listener(), start=None)
    assemble(_Lesson(silent, rows, socket.gethostname(), prints, state.step, state.pieces))
    settle_device(fit.machine.device)
    nothing: FieldmarkError | None = None
    for problem in told(nothing):
        if problem is not None:
            raise problem
    spread(state.moving())


@dataclass(frozen=True)
class _Lesson:
    """What followers do; see `core/ranks.py`."""

    fit: Fit
    rows: Ints
    host: str
    """The leader's machine."""
    digests: NDArray[np.uint64]
    """(R,) of the files of the pictures that can be read there."""
    step: int
    pieces: int

    def __call__(self) -> None:
        fit, problem = self.fit, None
        try:
            fit = replace(fit, machine=replace(fit.machine, device=settle_device(fit.machine.device)))
            pixels = _pixels_here(fit.data.pixels, self.digests, self.host, fit.recipe.images.cache_gb)
            fit = replace(fit, data=replace(fit.data, pixels=pixels))
            torch.set_num_threads(fit.machine.threads)
            model = fit.build(self.rows, load_weights=False)
            samples, schedule = fit.plan(model, self.rows)
            state = fit.state(model, schedule, leads=False)
        except FieldmarkError as error:
            problem = error
        if any(told(problem)):
            return
        state.follow(self.step, spread({}))
        state.pieces = self.pieces
        for _ in fit.steps(state, samples, schedule, self.rows):
            pass


def _pixels_here(pixels: PixelStore, digests: NDArray[np.uint64], host: str, limit_gb: float) -> PixelStore:
    """The leader's pixels, as this process finds them: in the leader's cache where it can be seen from here, else in
    one of this machine. Raises DataError if the files are other ones."""
    here = socket.gethostname()
    if here == host if pixels.file is None else pixels.file.is_file():
        return pixels
    catalog = pixels.catalog
    store = build_store(
        catalog, side=pixels.side, grey_bits=pixels.grey_bits, keep=catalog.splits != "test", limit_gb=limit_gb
    )
    same = np.zeros(len(store), np.bool_)
    same[store.readable] = store.fingerprints.digests == digests[store.readable]
    if not same.all():
        others = np.flatnonzero(~same)
        raise DataError(
            f"{counted(len(others), 'picture')} of {len(store):,} cannot be read on {here} or are not what they are on "
            f"{host}: {first_few(catalog.paths[int(row)] for row in others)}",
            f"Put the same data in {catalog.root} on every machine.",
        )
    return store
