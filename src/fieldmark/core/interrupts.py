"""Ctrl-C and SIGTERM as requests to stop, which are granted after the current step."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["INTERRUPT", "deaf_to_termination", "interrupt_flag", "interrupts_heard", "termination_interrupts"]

if sys.platform == "win32":
    INTERRUPT: Final = signal.CTRL_BREAK_EVENT
    _SIGNALS = (signal.SIGINT, signal.SIGBREAK)
else:
    INTERRUPT: Final = signal.SIGINT
    _SIGNALS = (signal.SIGINT,)


@contextmanager
def interrupts_heard() -> Iterator[None]:
    """While this lasts, a process that is started hears Ctrl-C, even if this one ignores it.

    A shell lets what it starts in the background, or with nohup, ignore Ctrl-C, and so would its children. Only the
    main thread can change that.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """While this lasts, SIGTERM ends this process as Ctrl-C does, so that it puts away what it has begun."""
    own = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not own or threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def on_termination(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a worker, whose pool ends it
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, on_termination)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def deaf_to_termination() -> None:
    """Let this worker live until its parent ends it or is gone: a service manager sends SIGTERM to all processes at
    once, and the step that the parent wants to finish needs its workers."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def interrupt_flag(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C, or SIGTERM, asks to stop after the current step; a second Ctrl-C stops at once.

    SIGTERM never does: who insists sends SIGKILL, and a training in a comparison that is ended with all its processes
    gets both SIGTERM and the comparison's own request.
    """
    asked: list[int] = []
    process = os.getpid()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a loader's worker: it goes on until the step is done
            return
        insists = number != signal.SIGTERM and any(before != signal.SIGTERM for before in asked)
        asked.append(number)
        if len(asked) == 1:
            again = "" if number == signal.SIGTERM else " Press Ctrl-C again to stop at once."
            say(f"Stopping after this step.{again}")
        if insists:
            raise KeyboardInterrupt

    handlers = {number: signal.signal(number, on_interrupt) for number in (*_SIGNALS, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
