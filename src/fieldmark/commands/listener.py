"""What a command tells while it works. The command line draws bars; a notebook may listen in silence."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fieldmark.data.splits import DataWarning

__all__ = ["Listener", "Tick", "kept_warnings", "relayed_warnings"]

Tick = Callable[..., None]
"""(done, total, note="") → None."""


class Listener:
    """Hears what happens; this one keeps silent."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def warn(self, text: str) -> None:
        """Something that should be known."""
        warnings.warn(text, DataWarning, stacklevel=3)

    @contextmanager
    def progress(self, title: str) -> Iterator[Tick]:
        """A stage with countable steps."""
        yield lambda done, total, note="": None

    @contextmanager
    def stoppable(self) -> Iterator[Callable[[], bool]]:
        """While this lasts, a request to stop is kept until the work asks for it."""
        yield lambda: False


@contextmanager
def relayed_warnings(listener: Listener) -> Iterator[None]:
    """Turn DataWarnings into `listener.warn`; others go their usual way."""
    kept: list[str] = []
    try:
        with kept_warnings() as kept:
            yield
    finally:  # before an error, too: they may explain it
        for text in kept:
            listener.warn(text)


@contextmanager
def kept_warnings() -> Iterator[list[str]]:
    """The texts of DataWarnings, once this is over; others go their usual way."""
    kept: list[str] = []
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DataWarning)
            yield kept
    finally:
        for warning in caught:
            if issubclass(warning.category, DataWarning):
                kept.append(str(warning.message))
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
