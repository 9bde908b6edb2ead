"""`Desk`: work that is done one piece at a time, with a limit on how much may wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, final

from fieldmark.serving.refusal import busy, late, stopping

__all__ = ["Desk"]

T = TypeVar("T")


@final
class Desk:
    """One thread that does what it is given, in order."""

    def __init__(self, name: str, *, most_waiting: int, seconds: float) -> None:
        """A piece of work that has not begun after `seconds` is refused."""
        self._most, self._seconds = most_waiting, seconds
        self._thread = ThreadPoolExecutor(1, f"fieldmark-{name}")
        self._waiting, self._lock, self._closed = 0, threading.Lock(), False
        self._each = 0.0

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Do it when its turn comes. Raises Refusal if too much is waiting: 429, or 503 after `close`."""
        with self._lock:
            if self._closed:
                raise stopping()
            if self._waiting >= self._most:
                raise busy(self._waiting * self._each)
            self._waiting += 1
        found = self._thread.submit(self._done, work, time.monotonic() + self._seconds)
        found.add_done_callback(self._left)
        return found

    def close(self) -> None:
        """Finish what was accepted, and accept nothing more."""
        with self._lock:
            self._closed = True
        self._thread.shutdown()

    def _done(self, work: Callable[[], T], until: float) -> T:
        begun = time.monotonic()
        if begun >= until:
            raise late(self._waiting * self._each)
        try:
            return work()
        finally:
            self._each = time.monotonic() - begun

    def _left(self, _: Future[Any]) -> None:
        with self._lock:
            self._waiting -= 1
