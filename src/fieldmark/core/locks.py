"""One command at a time: a lock on a file that a process holds until it ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["lock"]


@contextmanager
def lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock on this file in this context. Without `wait`, yield False at once if another process holds it.

    Raises OSError if the file cannot be made.
    """
    held = FileLock(path)
    try:
        held.acquire(timeout=-1 if wait else 0)
        while not path.exists():  # its holder has just removed it, so another process may hold a new one of that name
            held.release()
            held.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        held.release()
