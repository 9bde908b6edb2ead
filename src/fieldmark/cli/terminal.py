"""The progress of commands is shown as lines and a bar on standard error; Ctrl-C asks them to stop."""

from __future__ import annotations

import atexit
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from fieldmark.core.interrupts import interrupt_flag
from fieldmark.core.listener import Advanced, DataRead, Done, Event, Listener, Note, PlainLog, Warned
from fieldmark.core.wording import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

__all__ = ["INTERRUPTED", "Bars", "console_of", "literal", "say", "terminal"]

INTERRUPTED = 130
"""The exit status of a command that was interrupted."""
_MEANT, _NOTHING = re.compile(r"(\\+)|\["), "[none][/none]"
"""What markup may give a meaning, and a tag without one: how many backslashes are shown depends on what follows."""


def console_of(*, stderr: bool = False) -> Console:
    """The console that commands print to. Nothing in a text is taken for an emoji or coloured by itself."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, emoji=False)


def literal(text: object) -> str:
    """Text for a console as one line that is shown as it is: neither its markup nor its control characters count."""
    return _MEANT.sub(lambda found: found[0] * 2 + _NOTHING if found[1] else r"\[", shown(str(text)))


def say(text: str) -> None:
    """Print a line to standard error."""
    typer.echo(shown(text), err=True)


def terminal() -> Listener:
    """A listener with lines and a progress bar on standard error, or plain lines if that is not a terminal."""
    logging.getLogger("timm").setLevel(logging.ERROR)
    console = console_of(stderr=True)
    return _Stoppable(_Terminal(console) if console.is_terminal else PlainLog(sys.stderr))


class _Terminal(Listener):
    """A progress bar with lines above it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Bars(console)

    def hear(self, event: Event) -> None:
        match event:
            case Note(text):
                self.console.print(literal(text), soft_wrap=True)
            case Warned(text):
                self.console.print(f"[yellow]warning:[/yellow] {literal(text.rstrip('.'))}.", soft_wrap=True)
            case DataRead():
                self.console.print(f"Read {literal(event.description)}", soft_wrap=True)
            case Advanced():
                self._bars.show(event)
            case Done():
                self._bars.close()  # a stage may end before all of it is done


class _Stoppable(Listener):
    """Passes everything on to another listener, and treats Ctrl-C as a request to stop."""

    def __init__(self, inner: Listener) -> None:
        self.inner = inner

    def hear(self, event: Event) -> None:
        self.inner.hear(event)

    @contextmanager
    def stoppable(self) -> Iterator[Callable[[], bool]]:
        with interrupt_flag(self.note) as asked:
            yield asked


class Bars:
    """One bar at a time for the current stage, with the time left. It disappears when the stage is complete."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._shown: tuple[str, Progress, TaskID] | None = None

    def show(self, event: Advanced) -> None:
        if self._shown and self._shown[0] != event.stage:
            self.close()
        if self._shown is None:
            self._shown = event.stage, *self._opened(event.stage)
        _, progress, task = self._shown
        progress.update(task, completed=event.done, total=event.total, note=literal(event.note))
        if event.done >= event.total:
            self.close()

    def close(self) -> None:
        """Remove the bar."""
        if self._shown:
            self._shown[1].stop()
            self._shown = None

    def _opened(self, title: str) -> tuple[Progress, TaskID]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns: list[Any] = [
            TextColumn("{task.description}"),
            BarColumn(bar_width=max(3, min(40, self.console.width - 58))),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
        ]
        progress = Progress(*columns, console=self.console, transient=True)
        task = progress.add_task(literal(title), total=None, note="")
        atexit.register(self.close)  # whatever happens, the cursor comes back
        progress.start()
        return progress, task
