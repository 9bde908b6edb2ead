"""Ctrl-C, as a request that is granted after the running step."""

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
"""Set for a child that is to hear them even where its parent was started in the background, which ignores them."""

if sys.platform == "win32":
    INTERRUPT: Final = signal.CTRL_BREAK_EVENT
    _SIGNALS = (signal.SIGINT, signal.SIGBREAK)
else:
    INTERRUPT: Final = signal.SIGINT
    _SIGNALS = (signal.SIGINT,)


def hear_interrupts() -> None:
    """What a shell starts in the background, or by nohup, ignores Ctrl-C, and so would its children."""
    if os.environ.get(HEARD) and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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

    before = {number: signal.signal(number, on_interrupt) for number in _SIGNALS}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
