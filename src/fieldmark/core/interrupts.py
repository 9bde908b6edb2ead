"""Ctrl-C as a request to stop, which is granted after the current step."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["INTERRUPT", "interrupt_flag", "interrupts_heard"]

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
def interrupt_flag(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C asks to stop after the current step; a second one stops at once."""
    asked: list[bool] = []
    process = os.getpid()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a loader's worker: it goes on until the step is done
            return
        if asked:
            raise KeyboardInterrupt
        asked.append(True)
        say("Stopping after this step. Press Ctrl-C again to stop at once.")

    before = {number: signal.signal(number, on_interrupt) for number in _SIGNALS}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
