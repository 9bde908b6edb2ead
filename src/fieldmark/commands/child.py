"""One training in a process of its own, so that its memory is its own and its end is not ours."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["run_child", "why_it_ended"]

_POLL = 0.2
"""Seconds between two looks at the child."""


def run_child(
    command: Sequence[str],
    *,
    log: Path,
    keep_open: int,
    stop_asked: Callable[[], bool] = lambda: False,
    look: Callable[[], None] = lambda: None,
) -> int:
    """Run `fieldmark COMMAND …` to its end and return its exit status; what it says goes to `log`.

    A request to stop is passed on as Ctrl-C, once: a training then ends after its step, with all saved. The child is in
    a process group of its own, so that a terminal's Ctrl-C does not reach it a second time. It keeps the file
    descriptor `keep_open`: a lock on it holds as long as anyone is at work. `look` is called now and then.
    """
    with log.open("wb") as said:
        child = subprocess.Popen(
            [sys.executable, "-m", "fieldmark", *command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            process_group=0,
            preexec_fn=_hear_interrupts,
            pass_fds=[keep_open],
        )
    told = False
    try:
        while True:
            try:
                return child.wait(_POLL)
            except subprocess.TimeoutExpired:
                look()
            if stop_asked() and not told:
                told = True
                child.send_signal(signal.SIGINT)
    except BaseException:  # Ctrl-C where nobody listens, and the second one where somebody does
        child.send_signal(signal.SIGKILL if told else signal.SIGINT)
        child.wait()
        raise


def _hear_interrupts() -> None:
    """What a shell starts in the background, or by nohup, ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def why_it_ended(status: int, log: Path) -> str:
    """In one line, for a status that is not 0."""
    if status < 0:
        hint = "; was it the memory?" if status == -signal.SIGKILL else ""
        return f"it was ended by {signal.Signals(-status).name}{hint} See {log}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else ""
    if last.startswith("fieldmark: "):
        return last.removeprefix("fieldmark: ")
    return f"{last or f'exit status {status}'} (see {log})"
