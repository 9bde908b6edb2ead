"""Listeners for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fieldmark.core.listener import Event, Listener, Note, StepTaken, Warned


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

    def hear(self, event: Event) -> None:
        self.left -= isinstance(event, StepTaken)

    @contextmanager
    def stoppable(self) -> Iterator[Callable[[], bool]]:
        yield lambda: self.left <= 0


class InterruptedAt(Heard):
    """As the terminal does with Ctrl-C, it hears a request at the first event that `is_moment`, and keeps it only as
    long as a training can be stopped."""

    def __init__(self, is_moment: Callable[[Event], bool]) -> None:
        super().__init__()
        self.is_moment, self.is_asked = is_moment, False
        self.after: list[StepTaken] = []
        """Steps that were taken after it."""

    def hear(self, event: Event) -> None:
        super().hear(event)
        if self.is_asked and isinstance(event, StepTaken):
            self.after.append(event)
        self.is_asked = self.is_asked or self.is_moment(event)

    @contextmanager
    def stoppable(self) -> Iterator[Callable[[], bool]]:
        before = self.is_asked
        yield lambda: self.is_asked and not before
