"""The one loop from things to outputs: decode → view → batch → network. Everything that answers goes through it.

Shapes: B images of a batch, S × S pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import ImageError
from fieldmark.core.memory import lacked_memory, lacks_memory

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

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The view as a picture (S, S, 3)."""
        return np.ascontiguousarray(self.view.transpose(1, 2, 0))


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
    threads: int = 0,
    together: Callable[[T], object] = id,
) -> Iterator[Answered[T, A]]:
    """Answer things batch by batch, once and in order; memory does not grow with their number.

    `see` decodes a thing and gives its view. If it raises ImageError, the thing is skipped and the error is kept beside
    it. `engine` answers (B, 3, S, S). With `threads`, so many decode the next batch while the engine computes; `see`
    is then called from them, but for things in a row of which `together` says the same, from one of them in turn. What
    finds no memory beside the engine is seen again once it rests.
    Batches of one are answered as they come, since a single picture waits for no other. If the iterator of things
    raises, the things before are answered first.
    """
    if batch_size == 1:
        threads = 0
    with ExitStack() as ended:
        submit = ended.enter_context(ThreadPoolExecutor(threads)).submit if threads else _at_once
        ahead: deque[list[tuple[list[T], Future[list[Shown | ImageError]]]]] = deque()
        for batch in _batched(things, batch_size):
            if isinstance(batch, _Raised):
                while ahead:
                    yield _answered(ahead.popleft(), see, engine)
                raise batch.error
            rows = (list(row) for _, row in groupby(batch, together))
            ahead.append([(row, submit(_seen, see, row)) for row in rows])
            if len(ahead) > bool(threads):
                yield _answered(ahead.popleft(), see, engine)
        while ahead:
            yield _answered(ahead.popleft(), see, engine)


class _Raised(NamedTuple):
    error: BaseException


def _batched(things: Iterable[T], size: int) -> Iterator[list[T] | _Raised]:
    """The things in lists of this size, and at the end what their iterator raised."""
    batch: list[T] = []
    source = iter(things)
    while True:
        try:
            batch.append(next(source))
        except StopIteration:
            break
        except BaseException as error:  # whatever it is, it goes on once what came before is answered
            if batch:
                yield batch
            yield _Raised(error)
            return
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _seen(see: Callable[[T], Shown], things: list[T]) -> list[Shown | ImageError]:
    found: list[Shown | ImageError] = []
    for thing in things:
        try:
            found.append(see(thing))
        except ImageError as error:
            found.append(error)
    return found


def _ready(
    see: Callable[[T], Shown], things: list[T], future: Future[list[Shown | ImageError]]
) -> list[Shown | ImageError]:
    """What was seen of things. While the engine rests, there may be memory that there was not beside it."""
    try:
        found = future.result()
    except Exception as error:  # a lack of memory has no class of its own
        if not lacks_memory(error):
            raise
    else:
        if not any(isinstance(one, ImageError) and lacked_memory(one) for one in found):
            return found
    return _seen(see, things)


def _at_once(call: Callable[..., A], *arguments: Any) -> Future[A]:
    """As an executor's `submit`, without another thread."""
    found: Future[A] = Future()
    found.set_result(call(*arguments))
    return found


def _answered(
    batch: list[tuple[list[T], Future[list[Shown | ImageError]]]],
    see: Callable[[T], Shown],
    engine: Callable[[NDArray[np.uint8]], A],
) -> Answered[T, A]:
    answered: Answered[T, A] = Answered()
    for things, future in batch:
        answered.things += things
        for seen in _ready(see, things, future):
            if isinstance(seen, ImageError):
                answered.errors.append(seen)
            else:
                answered.errors.append(None)
                answered.shown.append(seen)
    if answered.shown:
        answered.output = engine(answered.images)
    return answered


def batches(things: Iterable[T], see: Callable[[T], Shown], *, batch_size: int = BATCH) -> Iterator[NDArray[np.uint8]]:
    """The views alone, uint8 (B, 3, S, S), for code that runs the network itself. Raises ImageError."""
    for answered in stream(things, see, lambda images: images, batch_size=batch_size):
        for _, error in answered.skipped:
            raise error
        assert answered.output is not None
        yield answered.output
