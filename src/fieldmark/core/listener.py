"""Typed events that report how work is going, and the listeners that hear them.

Event
├── Note, Warned         a line worth reading; something the user should know
├── DataRead             data was read, and how it is split
├── Advanced             progress of a stage: 320 of 1,240 images
├── StepTaken            one training step, with its loss
├── EpochEnded           the end of an epoch, with its metrics as numbers
└── Done                 the end of a command, and where its results are

from fieldmark.core.listener import EpochEnded

class Losses(fieldmark.Listener):
    def hear(self, event):
        if isinstance(event, EpochEnded):
            print(event.epoch, event.metrics)

fieldmark.train("photographs/", out="runs/birds", listener=Losses())
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, final

from fieldmark.core.errors import DataWarning, FieldmarkWarning
from fieldmark.core.wording import shown

__all__ = [
    "Advanced",
    "DataRead",
    "Done",
    "EpochEnded",
    "Event",
    "Listener",
    "Listeners",
    "Note",
    "PlainLog",
    "StepTaken",
    "Tick",
    "Warned",
    "kept_warnings",
    "relayed_warnings",
]

Tick = Callable[..., None]
"""(done, total, note="") → None."""


@dataclass(frozen=True)
class Event:
    """Something that happened."""


@final
@dataclass(frozen=True)
class Note(Event):
    """A line worth reading."""

    text: str


@final
@dataclass(frozen=True)
class Warned(Event):
    """Something the user should know."""

    text: str


@final
@dataclass(frozen=True)
class DataRead(Event):
    """Data was read."""

    name: str
    num_images: int
    num_classes: int
    splits: Mapping[str, int] = field(default_factory=dict)
    """The number of images in "train", "val" and "test"; empty if the data is not split yet."""
    description: str = ""
    """The same facts in words."""


@final
@dataclass(frozen=True)
class Advanced(Event):
    """A stage has made progress."""

    stage: str
    """What is being done: "Decoding images"."""
    done: int
    total: int
    note: str = ""
    """The speed, or what is being worked on."""


@final
@dataclass(frozen=True)
class StepTaken(Event):
    """A training step was taken."""

    fit: str
    """"model", "fold 0", "member 2", …"""
    step: int
    """Counted from 1."""
    num_steps: int
    loss: float
    """The mean since the epoch began."""
    images_per_second: float


@final
@dataclass(frozen=True)
class EpochEnded(Event):
    """An epoch has ended."""

    fit: str
    epoch: int
    """Counted from 1."""
    num_epochs: int
    step: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    """"loss", "images_per_second", "seconds" so far and, if the validation split is scored, "val_top1", "val_nll" and
    "validation_seconds"."""


@final
@dataclass(frozen=True)
class Done(Event):
    """A command has finished."""

    what: str
    folder: Path | None = None
    """The folder with its results."""


class Listener:
    """Hears events. This one is silent, except that it turns warnings into Python warnings.

    Override `hear`, and `stoppable` to stop a training between two steps.
    """

    def hear(self, event: Event) -> None:
        """Hear an event. It is called from the working thread, so it should be quick."""
        if isinstance(event, Warned):
            warnings.warn(shown(event.text), DataWarning, stacklevel=4)

    @contextmanager
    def stoppable(self) -> Iterator[Callable[[], bool]]:
        """In this context, a request to stop is kept until the work asks for it."""
        yield lambda: False

    # ---- how work speaks

    @final
    def note(self, text: str) -> None:
        """Say a line worth reading."""
        self.hear(Note(text))

    @final
    def warn(self, text: str) -> None:
        """Say something the user should know."""
        self.hear(Warned(text))

    @final
    @contextmanager
    def progress(self, stage: str) -> Iterator[Tick]:
        """Report the progress of a stage with countable steps."""

        def tick(done: int, total: int, note: str = "") -> None:
            self.hear(Advanced(stage, done, total, note))

        yield tick


@final
class Listeners(Listener):
    """Several listeners as one. The work stops when any of them asks for it."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners

    def hear(self, event: Event) -> None:
        for listener in self.listeners:
            listener.hear(event)

    @contextmanager
    def stoppable(self) -> Iterator[Callable[[], bool]]:
        with ExitStack() as stack:
            asked = [stack.enter_context(listener.stoppable()) for listener in self.listeners]
            yield lambda: any(one() for one in asked)


@final
class PlainLog(Listener):
    """Writes notes, warnings and progress to a file, with a line at least every 30 seconds of work."""

    def __init__(self, file: TextIO, *, every: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.file, self.every, self.clock = file, every, clock
        self._told = self._heard = clock()

    def hear(self, event: Event) -> None:
        now = self.clock()
        pause, self._heard = now - self._heard, now
        if isinstance(event, Note):
            self._say(event.text)
        elif isinstance(event, Warned):
            self._say(f"warning: {event.text.rstrip('.')}.")
        elif isinstance(event, DataRead):
            self._say(f"Read {event.description}")
        elif isinstance(event, Advanced) and (now - self._told >= self.every or now + pause > self._told + self.every):
            # the second: at this pace, the next event would come too late
            rest = f", {event.note}" if event.note else ""
            self._say(f"{event.stage}: {event.done:,} of {event.total:,}{rest}")

    def _say(self, text: str) -> None:
        print(shown(text), file=self.file, flush=True)
        self._told = self.clock()


@contextmanager
def relayed_warnings(listener: Listener) -> Iterator[None]:
    """Pass Fieldmark's warnings to `listener.warn`; other warnings are left alone."""
    kept: list[str] = []
    try:
        with kept_warnings() as kept:
            yield
    finally:  # before an error, too: they may explain it
        for text in kept:
            listener.warn(text)


@contextmanager
def kept_warnings() -> Iterator[list[str]]:
    """Collect the texts of Fieldmark's warnings, which are there at the end; other warnings are left alone."""
    kept: list[str] = []
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", FieldmarkWarning)
            yield kept
    finally:
        for warning in caught:
            if issubclass(warning.category, FieldmarkWarning):
                kept.append(str(warning.message))
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
