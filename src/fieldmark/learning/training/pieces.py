"""A batch that does not fit into memory, computed in pieces whose gradients add up to those of the whole.

A loss is the mean over images, so pieces that are weighed by their images sum to the step of the whole batch. Two
things differ: BatchNorm, where it learns, sees a piece at a time, and a loss that compares images cannot be had in
pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor

from fieldmark.core.errors import DeviceError, TrainingError
from fieldmark.core.memory import give_back_freed_memory, lacks_memory, with_kernels
from fieldmark.core.ranks import divided, size
from fieldmark.core.wording import counted
from fieldmark.learning.training.batchnorm import moving_layers
from fieldmark.learning.training.setting import Setting
from fieldmark.learning.training.sharing import whole_statistics
from fieldmark.learning.training.state import TrainingState
from fieldmark.model.batch import Batch
from fieldmark.model.model import Model
from fieldmark.model.precision import autocast

__all__ = ["enough_memory", "gradients"]

_HINT = "Lower images.size, or choose a smaller backbone or a machine with more memory."


def gradients(state: TrainingState, batch: Batch, index: int, weight: float, setting: Setting) -> dict[str, Tensor]:
    """The terms of the loss, `weight` times each, and in every parameter the gradient of their sum.

    If memory does not suffice, `state.pieces` is doubled until it does, and stays so. Raises TrainingError where pieces
    cannot be smaller, or where a loss compares images; DeviceError where other processes have begun the same step.
    """
    before = _Before(state.model, batch.images.device)
    while True:
        state.optimizer.zero_grad(set_to_none=True)
        try:
            return with_kernels(partial(_sums, state, batch, index, weight, setting))
        except Exception as error:  # a processor's lack of memory has no class of its own
            if not lacks_memory(error):
                raise
            # behind this clause nothing holds the tensors of the attempt any longer
        state.optimizer.zero_grad(set_to_none=True)
        give_back_freed_memory()
        state.pieces = _more(state.pieces, len(batch.rows), state.model)
        before.restore()


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn running out of memory, where nothing smaller can be computed, into a TrainingError."""
    try:
        yield
    except Exception as error:  # a processor's lack of memory has no class of its own
        if not lacks_memory(error):
            raise
        raise TrainingError(
            "Memory does not suffice for this training",
            "Lower images.size or train.batch_size, choose a smaller backbone or a machine with more memory, or end "
            "what else is running.",
        ) from error


def _sums(state: TrainingState, batch: Batch, index: int, weight: float, setting: Setting) -> dict[str, Tensor]:
    """The terms over `state.pieces`; their gradients are added to what is there. The caller ends the last lap."""
    sums: dict[str, Tensor] = {}
    model, pieces = state.model, state.pieces
    for which in _slices(len(batch.rows), pieces):
        if sums:
            setting.lap("backward")
        piece = batch if pieces == 1 else batch.piece(which)
        together = nullcontext() if pieces == 1 else divided()
        with autocast(setting.machine.precision, batch.images.device), whole_statistics(model), together:
            losses = model.losses(piece, index)
        share = weight * len(piece.rows) / len(batch.rows)
        terms = share * torch.stack([value.float() for value in losses.values()])
        setting.lap("forward")
        terms.sum().backward()
        for name, term in zip(losses, terms.detach(), strict=True):
            sums[name] = sums[name] + term if name in sums else term
    return sums


def _slices(count: int, pieces: int) -> Iterator[slice]:
    """So many things in a row, in pieces that differ by one at most."""
    pieces = min(pieces, count)
    for number in range(pieces):
        yield slice(number * count // pieces, (number + 1) * count // pieces)


def _more(pieces: int, count: int, model: Model) -> int:
    """Into how many pieces a batch goes that does not fit in so many."""
    if size() > 1:  # the others may be waiting for what this one was to exchange
        raise DeviceError(
            f"Memory does not suffice for a share of {counted(count, 'image')} in one of {size()} processes",
            "Lower train.batch_size, or start more processes on more GPUs.",
        )
    most = max(1, count // 2) if moving_layers(model) else count  # one image has no variance
    if pieces >= most:
        each = counted(-(-count // pieces), "image")
        raise TrainingError(f"Memory does not suffice to learn from even {each} at a time", _HINT)
    return min(2 * pieces, most)


class _Before:
    """What an attempt moves besides gradients: the generators, and the statistics of BatchNorm where it learns."""

    def __init__(self, model: Model, device: torch.device) -> None:
        self._device = device
        self._random = torch.get_rng_state()
        self._random_there = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        moving = [buffer for layer in moving_layers(model) for buffer in layer.buffers()]
        self._buffers = [(buffer, buffer.clone()) for buffer in moving]

    @torch.no_grad()
    def restore(self) -> None:
        torch.set_rng_state(self._random)
        if self._random_there is not None:
            torch.cuda.set_rng_state(self._random_there, self._device)
            torch.cuda.empty_cache()
        for buffer, value in self._buffers:
            buffer.copy_(value)
