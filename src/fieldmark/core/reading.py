"""Reading files that may have come from anybody: what is wrong with one is said in a line, and nothing else happens."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["read_regular"]

MOST = 256 * 2**20
"""The size in bytes from which a file is not what it should be, where nothing else is known."""


def read_regular(path: Path, *, most: int = MOST) -> bytes:
    """The contents of a regular file.

    Raises OSError if it cannot be read, FileNotFoundError if it is absent, and ValueError if it is something else, such
    as a pipe, which would never end, or if it has more bytes than `most`.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("it is not a regular file")
        if about.st_size > most:
            raise ValueError(f"it has {about.st_size:,} bytes, where {most:,} are the most")
        data = file.read(most + 1)  # it may have grown
    if len(data) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return data
