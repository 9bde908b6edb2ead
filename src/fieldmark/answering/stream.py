"""The one loop from things to outputs: decode → view → batch → network. Everything that answers goes through it.

Shapes: B images of a batch, S × S pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from fieldmark.core.errors import ImageError

__all__ = ["BATCH", "Answered", "Shown", "batches", "stream"]

BATCH = 32

T = TypeVar("T")
A = TypeVar("A")


class Shown(NamedTuple):
    """What the network sees of one thing."""

    view: Tensor
    """uint8 (3, S, S)."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the picture, in pixels."""


@dataclass
class Answered(Generic[T, A]):
    """A batch of things, and what was answered for those that could be read."""

    things: list[T] = field(default_factory=list)
    """All of them, in order."""
    errors: list[ImageError | None] = field(default_factory=list)
    """Of each thing; None for one that could be read."""
    shown: list[Shown] = field(default_factory=list)
    """(B) those that could be read."""
    output: A | None = None
    """What the engine made of `images`; None where no thing could be read."""

    @property
    def readable(self) -> list[T]:
        """(B) the things that could be read."""
        return [thing for thing, error in zip(self.things, self.errors, strict=True) if error is None]

    @property
    def skipped(self) -> list[tuple[T, ImageError]]:
        """The others, with the reasons."""
        return [(thing, error) for thing, error in zip(self.things, self.errors, strict=True) if error is not None]

    @property
    def images(self) -> Tensor:
        """uint8 (B, 3, S, S)."""
        return torch.stack([one.view for one in self.shown])


def stream(
    things: Iterable[T],
    see: Callable[[T], Shown],
    engine: Callable[[Tensor], A],
    *,
    batch_size: int = BATCH,
) -> Iterator[Answered[T, A]]:
    """Answer things batch by batch, in order and once; memory does not grow with their number.

    `see` decodes a thing and gives its view; one that raises ImageError is skipped and the error kept beside it.
    `engine` answers uint8 (B, 3, S, S). Where the things' own iterator raises, what came before is answered first.
    """
    batch: Answered[T, A] = Answered()
    source = iter(things)
    while True:
        try:
            thing = next(source)
        except StopIteration:
            break
        except BaseException:
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


def _answered(batch: Answered[T, A], engine: Callable[[Tensor], A]) -> Answered[T, A]:
    if batch.shown:
        batch.output = engine(batch.images)
    return batch


def batches(things: Iterable[T], see: Callable[[T], Shown], *, batch_size: int = BATCH) -> Iterator[Tensor]:
    """The views alone, uint8 (B, 3, S, S), for what looks at a network while it answers. Raises ImageError."""
    for answered in stream(things, see, lambda images: images, batch_size=batch_size):
        for _, error in answered.skipped:
            raise error
        assert answered.output is not None
        yield answered.output
