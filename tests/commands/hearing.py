"""A listener for tests. A module of its own: "conftest" is a name that every folder of tests has."""

from __future__ import annotations

from fieldmark.commands.listener import Listener


class Heard(Listener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
