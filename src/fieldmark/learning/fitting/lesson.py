"""One training in which several processes take part: what the first one sends to the others.

Only the first has the run, the user and the last word. The others are told how to follow, get the weights,
and take the same steps (`core/ranks.py`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import DataError, DeviceError, FieldmarkError, RecipeError
from fieldmark.core.machine import Machine
from fieldmark.core.ranks import assemble, settle_device, size, spread, told
from fieldmark.core.wording import counted, first_few
from fieldmark.data.cache import PixelStore, build_store
from fieldmark.data.loader import Schedule
from fieldmark.learning.training.state import TrainingState

__all__ = ["begin_together"]

Follow = Callable[[Machine, PixelStore], tuple[TrainingState, Iterable[object]]]
"""What a follower does on its machine, with the pixels that it finds there: the state before the first step, and the
steps from there. It is pickled."""


def begin_together(
    follow: Follow, machine: Machine, pixels: PixelStore, limit_gb: float, state: TrainingState, schedule: Schedule
) -> None:
    """Have the other processes, if there are any, stand where `state` does, ready to take its steps.

    Where they cannot see the leader's pixels, they decode their own, and cache up to `limit_gb` of them. Raises
    RecipeError or DeviceError if the work cannot be divided, and DataError if one of them has other pictures.
    """
    if size() == 1:
        return
    if schedule.step_size < size():
        raise RecipeError(
            f"A batch of {counted(schedule.step_size, 'image')} cannot be shared by {size()} processes",
            "Raise train.batch_size if there are enough training images, or start fewer processes.",
        )
    if ":" in machine.device:
        raise DeviceError(
            f"{machine.device} is one device, and {size()} processes are to train on one each",
            "Leave out its number; the environment variable CUDA_VISIBLE_DEVICES says which ones are used.",
        )
    prints = pixels.fingerprints.digests
    assemble(_Lesson(follow, machine, pixels, limit_gb, socket.gethostname(), prints, state.step, state.pieces))
    settle_device(machine.device)
    nothing: FieldmarkError | None = None
    for problem in told(nothing):
        if problem is not None:
            raise problem
    spread(state.moving())


@dataclass(frozen=True)
class _Lesson:
    """What followers do; see `core/ranks.py`."""

    follow: Follow
    machine: Machine
    pixels: PixelStore
    limit_gb: float
    host: str
    """The leader's machine."""
    digests: NDArray[np.uint64]
    """(R,) of the files of the pictures that can be read there."""
    step: int
    pieces: int

    def __call__(self) -> None:
        problem = None
        try:
            machine = replace(self.machine, device=settle_device(self.machine.device))
            state, steps = self.follow(machine, _pixels_here(self.pixels, self.digests, self.host, self.limit_gb))
        except FieldmarkError as error:
            problem = error
        if any(told(problem)):
            return
        state.follow(self.step, spread({}))
        state.pieces = self.pieces
        for _ in steps:
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
