"""A listener for tests."""

from __future__ import annotations

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
