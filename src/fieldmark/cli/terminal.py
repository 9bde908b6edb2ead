"""What commands tell while they work: lines and a progress bar on standard error; Ctrl-C."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from fieldmark.commands.listener import Listener, Tick

__all__ = ["INTERRUPTED", "bar", "interrupt_flag", "terminal"]

INTERRUPTED = 130
"""Exit status."""


def terminal() -> Listener:
    """Lines and a progress bar on standard error. Defined here, since the base class comes with torch."""
    from rich.console import Console

    from fieldmark.commands.listener import Listener

    logging.getLogger("timm").setLevel(logging.ERROR)

    class Terminal(Listener):
        def __init__(self, console: Console) -> None:
            self.console = console

        def note(self, text: str) -> None:
            self.console.print(text, markup=False, soft_wrap=True)

        def warn(self, text: str) -> None:
            self.console.print(f"[yellow]warning:[/yellow] {_escaped(text)}.", soft_wrap=True)

        @contextmanager
        def progress(self, title: str) -> Iterator[Tick]:
            with bar(self.console, title) as tick:
                yield tick

        @contextmanager
        def stoppable(self) -> Iterator[Callable[[], bool]]:
            with interrupt_flag(self.note) as asked:
                yield asked

    return Terminal(Console(stderr=True, highlight=False))


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text.rstrip("."))


@contextmanager
def bar(console: Console, title: str) -> Iterator[Tick]:
    """A bar with the time left; nothing where standard error is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=max(3, min(40, console.width - 58))),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    ]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None, note="")

        def tick(done: int, total: int, note: str = "") -> None:
            progress.update(task, completed=done, total=total, note=note)

        yield tick


@contextmanager
def interrupt_flag(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C is a request that is granted after the running step; a second one ends at once."""
    asked: list[bool] = []
    process = os.getpid()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a loader's worker: it goes on until the step is done
            return
        if asked:
            raise KeyboardInterrupt
        asked.append(True)
        say("Stopping after this step; press Ctrl-C again to end at once.")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
