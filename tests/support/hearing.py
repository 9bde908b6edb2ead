"""Listeners for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fieldmark.core.listener import Event, Listener, Note, Warned


class Heard(Listener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def hear(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Note):
            self.notes.append(event.text)
        elif isinstance(event, Warned):
            self.warnings.append(event.text)


class StopsAfter(Listener):
    """Asks to stop after so many steps of a sitting."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @contextmanager
    def stoppable(self) -> Iterator[Callable[[], bool]]:
        def asked() -> bool:
            self.left -= 1
            return self.left <= 0

        yield asked
