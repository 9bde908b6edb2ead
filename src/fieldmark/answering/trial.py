"""Trials of two engines: whether they give the same numbers, which is faster here, and when it pays to find out.

Shapes: B images of S × S pixels.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.machine import memory_size
from fieldmark.core.memory import lacks_memory

__all__ = ["PAYS", "TOLERANCE", "WORTH", "has_room", "is_passing", "off", "seconds_each"]

PAYS = 120.0
"""So many seconds must PyTorch have to compute. To find out takes about a third of it, once, and saves nearly half."""
TOLERANCE = 1e-4
"""How far the outputs of a graph of full precision may be off, for outputs of about one."""
WORTH = 1.1
"""How many times as fast ONNX Runtime must be; less is within what a busy machine does to a measurement."""
_SHARE = 1 / 8
"""Of the memory, what weights may take: a trial holds them several times, as networks and as graphs."""
_LACKS_MEMORY = re.compile("allocate|bad_alloc|available memory|half of the memory", re.IGNORECASE)
"""How it is said in what was made of other errors, and by whoever looks beforehand; see also `lacks_memory`."""


def has_room(weights: int) -> bool:
    """Whether a network with so many bytes of weights can be tried."""
    return weights <= _SHARE * memory_size()


def is_passing(error: BaseException) -> bool:
    """Whether what was lacking is memory, room on a disk or a package, however many errors were made of it."""
    before = error.__cause__ or error.__context__
    lacking = lacks_memory(error) or _LACKS_MEMORY.search(str(error)) is not None
    return lacking or isinstance(error, (OSError, ImportError)) or (before is not None and is_passing(before))


def off(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """The largest difference as a share of the largest value, with which rounding grows, or of 1 if that is larger."""
    return float(np.abs(before - after).max() / max(1.0, np.abs(before).max()))


def seconds_each(
    engines: Mapping[str, Callable[[NDArray[np.uint8]], object]], images: NDArray[np.uint8], *, rounds: int
) -> dict[str, float]:
    """The median time per image (B, 3, S, S) of each engine, in turns, after a round that warms up."""
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds + 1):
        for name, engine in engines.items():
            begun = time.perf_counter()
            engine(images)
            taken[name].append(time.perf_counter() - begun)
    return {name: float(np.median(times[1:])) / len(images) for name, times in taken.items()}
