"""The one loop from things to outputs: decode → view → batch → network. Everything that answers goes through it.

Shapes: B images of a batch, S × S pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import ImageError

__all__ = ["BATCH", "Answered", "Shown", "batches", "stream"]

BATCH = 32

T = TypeVar("T")
A = TypeVar("A")


class Shown(NamedTuple):
    """A thing as the network sees it."""

    view: NDArray[np.uint8]
    """(3, S, S)."""
    size: tuple[int, int] = (0, 0)
    """The width and height of the picture, in pixels."""


@dataclass
class Answered(Generic[T, A]):
    """A batch of things, with answers for those that could be read."""

    things: list[T] = field(default_factory=list)
    """All of them, in order."""
    errors: list[ImageError | None] = field(default_factory=list)
    """The error of each thing, or None if it could be read."""
    shown: list[Shown] = field(default_factory=list)
    """The views of the B things that could be read."""
    output: A | None = None
    """The engine's answer for `images`, or None if nothing could be read."""

    @property
    def readable(self) -> list[T]:
        """The B things that could be read."""
        return [thing for thing, error in zip(self.things, self.errors, strict=True) if error is None]

    @property
    def skipped(self) -> list[tuple[T, ImageError]]:
        """The other things, with the reasons."""
        return [(thing, error) for thing, error in zip(self.things, self.errors, strict=True) if error is not None]

    @property
    def images(self) -> NDArray[np.uint8]:
        """The views as one array (B, 3, S, S)."""
        return np.stack([one.view for one in self.shown])


def stream(
    things: Iterable[T],
    see: Callable[[T], Shown],
    engine: Callable[[NDArray[np.uint8]], A],
    *,
    batch_size: int = BATCH,
) -> Iterator[Answered[T, A]]:
    """Answer things batch by batch, once and in order; memory does not grow with their number.

    `see` decodes a thing and gives its view. If it raises ImageError, the thing is skipped and the error is kept beside
    it. `engine` answers uint8 (B, 3, S, S). If the iterator of things raises, the things before are answered first.
    """
    batch: Answered[T, A] = Answered()
    source = iter(things)
    while True:
        try:
            thing = next(source)
        except StopIteration:
            break
        except BaseException:  # whatever it is, it goes on once what came before is answered
            if batch.things:
                yield _answered(batch, engine)
            raise
        batch.things.append(thing)
        try:
            batch.shown.append(see(thing))
            batch.errors.append(None)
        except ImageError as error:
            batch.errors.append(error)
        if len(batch.things) == batch_size:
            yield _answered(batch, engine)
            batch = Answered()
    if batch.things:
        yield _answered(batch, engine)


def _answered(batch: Answered[T, A], engine: Callable[[NDArray[np.uint8]], A]) -> Answered[T, A]:
    if batch.shown:
        batch.output = engine(batch.images)
    return batch


def batches(things: Iterable[T], see: Callable[[T], Shown], *, batch_size: int = BATCH) -> Iterator[NDArray[np.uint8]]:
    """The views alone, uint8 (B, 3, S, S), for code that runs the network itself. Raises ImageError."""
    for answered in stream(things, see, lambda images: images, batch_size=batch_size):
        for _, error in answered.skipped:
            raise error
        assert answered.output is not None
        yield answered.output
