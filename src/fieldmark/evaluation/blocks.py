"""Rows of large arrays, a block at a time: of 100,000 images and 10,000 classes, one array of probabilities is 8 GB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["blocks", "by_blocks"]

_MOST = 2**22
"""Numbers of a block: 32 MB, so that what is made of them on the way takes hundreds."""


def blocks(num_rows: int, width: int) -> Iterator[slice]:
    """Slices that cover the rows, of as many rows of `width` numbers as make a block, and of one at least."""
    count = max(1, _MOST // max(1, width))
    return (slice(start, min(start + count, num_rows)) for start in range(0, num_rows, count))


def by_blocks(function: Callable[..., NDArray[Any]], first: NDArray[Any], *others: NDArray[Any]) -> NDArray[Any]:
    """function(first, *others) for arrays of as many rows, computed for a block of rows of `first` (N, K) at a time.

    It must treat each row by itself, and give an array with a row for each.
    """
    if len(first) <= max(1, _MOST // max(1, first.shape[1])):
        return function(first, *others)
    found: NDArray[Any] | None = None
    for rows in blocks(*first.shape):
        values = function(first[rows], *(other[rows] for other in others))
        if found is None:
            found = np.empty((len(first), *values.shape[1:]), values.dtype)
        found[rows] = values
    assert found is not None
    return found
