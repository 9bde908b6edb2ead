"""Rows of a catalogue, answered: what can be read goes through the stream, and the rest is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import stream
from fieldmark.answering.things import Thing
from fieldmark.core.errors import DataError
from fieldmark.core.listener import Listener
from fieldmark.core.machine import num_decoders
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import Catalog

__all__ = ["AnsweredRows", "answer_rows", "things_of"]

A = TypeVar("A")


class AnsweredRows(NamedTuple, Generic[A]):
    """What an engine made of the rows that could be read."""

    outputs: list[A]
    """One for each batch."""
    rows: NDArray[np.int64]
    """(N,) the rows that could be read."""
    sizes: list[tuple[int, int]]
    """(N) width and height of each picture, in pixels."""
    unreadable: tuple[str, ...]
    """The paths of the other rows."""


def things_of(catalog: Catalog, rows: NDArray[np.int64]) -> list[Thing]:
    """The pictures of these rows, by their paths in the catalogue."""
    return [Thing(catalog.paths[row], catalog.file(int(row))) for row in rows]


def answer_rows(
    predictor: Predictor,
    catalog: Catalog,
    rows: NDArray[np.int64],
    engine: Callable[[NDArray[np.uint8]], A],
    listener: Listener,
    *,
    stage: str,
) -> AnsweredRows[A]:
    """Show these rows to an engine, and warn about those that cannot be read. Raises DataError if none can."""
    outputs: list[A] = []
    sizes: list[tuple[int, int]] = []
    readable: list[bool] = []
    unreadable: list[str] = []
    with listener.progress(stage) as tick:
        for answered in stream(things_of(catalog, rows), predictor.see, engine, threads=num_decoders()):
            outputs += [] if answered.output is None else [answered.output]
            sizes += [shown.size for shown in answered.shown]
            readable += [error is None for error in answered.errors]
            unreadable += [thing.name for thing, _ in answered.skipped]
            tick(len(readable), len(rows))
    if unreadable:
        names = first_few(unreadable)
        listener.warn(
            f"{len(unreadable):,} of {counted(len(rows), 'image')} could not be read and were skipped: {names}"
        )
    if not outputs:
        raise DataError(
            f"None of {counted(len(rows), 'image')} could be read",
            f"Check the files, such as {catalog.file(int(rows[0]))}.",
        )
    return AnsweredRows(outputs, rows[np.array(readable)], sizes, tuple(unreadable))
