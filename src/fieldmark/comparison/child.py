"""One training in a process of its own, with its own memory: if it crashes, the comparison goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fieldmark.core.interrupts import INTERRUPT, interrupts_heard

__all__ = ["run_child", "why_it_ended"]

_POLL = 0.2
"""The seconds between two looks at the child."""
_KILLED = -9


def run_child(
    command: Sequence[str],
    *,
    log: Path,
    stop_asked: Callable[[], bool] = lambda: False,
    look: Callable[[], None] = lambda: None,
) -> int:
    """Run `fieldmark COMMAND …` to its end and return its exit status; its output goes to `log`.

    A request to stop is passed on once, as Ctrl-C: a training then ends after its current step, with everything saved.
    The child is detached from the terminal, whose Ctrl-C would reach it a second time. `look` is called regularly.
    """
    with log.open("wb") as said, interrupts_heard():
        child = subprocess.Popen(
            [sys.executable, "-m", "fieldmark", *command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            **_apart(),
        )
    passed_on = False
    try:
        while True:
            try:
                return child.wait(_POLL)
            except subprocess.TimeoutExpired:
                look()
            if stop_asked() and not passed_on:
                passed_on = True
                child.send_signal(INTERRUPT)
    except BaseException:  # Ctrl-C where nobody listens, and the second one where somebody does
        child.kill() if passed_on else child.send_signal(INTERRUPT)
        child.wait()
        raise


def _apart() -> dict[str, Any]:
    """The options that detach a child from the terminal."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def why_it_ended(status: int, log: Path) -> str:
    """The reason in one line, for a status other than 0."""
    if status < 0:
        hint = ", possibly because memory ran out" if status == _KILLED else ""
        return f"it was ended by {signal.Signals(-status).name}{hint} (see {log})"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else ""
    if last.startswith("fieldmark: "):
        return last.removeprefix("fieldmark: ")
    return f"{last or f'exit status {status}'} (see {log})"
