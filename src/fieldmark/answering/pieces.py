"""A batch that does not fit into memory, answered in pieces: the answers are the same. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from fieldmark.core.errors import DeviceError
from fieldmark.core.memory import give_back_freed_memory, lacks_memory, with_kernels

__all__ = ["Pieces"]

T = TypeVar("T")


class Pieces(Generic[T]):
    """Computes a batch of images, an array or a tensor, whole and, once memory has not sufficed, in pieces that fit.

    Every image is computed once, but for those of a piece that did not fit. Raises DeviceError if memory does not
    suffice for one image. `compute` may be called in another thread, so it enters what contexts of torch it needs.
    """

    def __init__(self, compute: Callable[[Any], T], join: Callable[[Sequence[T]], T]) -> None:
        self._compute, self._join = compute, join
        self._most: int | None = None

    def __call__(self, images: Any) -> T:
        found: list[T] = []
        start, again = 0, False
        while start < len(images) or not found:  # of no image, the answer has the right shape all the same
            most = max(1, min(self._most or len(images), len(images) - start))
            try:
                found.append(with_kernels(partial(self._compute, images[start : start + most])))
                start, again = start + most, False
                continue
            except Exception as error:  # a processor's lack of memory has no class of its own
                if not lacks_memory(error):
                    raise
                if again:
                    raise DeviceError(
                        "Memory does not suffice for one picture",
                        "End what else computes on this device; if it is a GPU, the processor may have more memory: "
                        "--device cpu.",
                    ) from error
            # behind the clause nothing holds the tensors of the attempt any longer
            give_back_freed_memory()
            self._most, again = max(1, most // 2), most == 1  # one image may fit into what was given back
        return self._join(found)
