"""What the code under test opens, connects to and starts, by Python's own audit events."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fieldmark

__all__ = ["watched"]

_OWN = tuple(
    str(Path(place).resolve())
    for place in (sys.prefix, sys.base_prefix, Path(fieldmark.__file__).parent, Path(__file__).parents[1])
)
_SYSTEM = ("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/usr/", "/lib")
_FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "pickle.", "urllib.")
_seen: list[str] | None = None
_allowed: tuple[str, ...] = ()


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is None:
        return
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not path.startswith((*_OWN, *_SYSTEM, *_allowed)):
            _seen.append(f"open {path}")
    elif event.startswith(_FORBIDDEN):
        _seen.append(f"{event} {arguments}")


sys.addaudithook(_hook)


@contextmanager
def watched(*allowed: Path) -> Iterator[list[str]]:
    """What is opened outside the installation and these folders, and what is connected to or started."""
    global _seen, _allowed
    _seen, _allowed = [], tuple(str(one.resolve()) for one in allowed)
    try:
        yield _seen
    finally:
        _seen = None
