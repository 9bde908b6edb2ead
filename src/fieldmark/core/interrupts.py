"""Ctrl-C as a request to stop, which is granted after the current step."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["HEARD", "INTERRUPT", "hear_interrupts", "interrupt_flag"]

HEARD: Final = "FIELDMARK_HEARS_INTERRUPTS"
"""Set for a child that must hear interrupts even if its parent was started in the background and ignores them."""

if sys.platform == "win32":
    INTERRUPT: Final = signal.CTRL_BREAK_EVENT
    _SIGNALS = (signal.SIGINT, signal.SIGBREAK)
else:
    INTERRUPT: Final = signal.SIGINT
    _SIGNALS = (signal.SIGINT,)


def hear_interrupts() -> None:
    """Hear Ctrl-C in a child whose parent ignores it because a shell started it in the background or with nohup."""
    if os.environ.get(HEARD) and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
