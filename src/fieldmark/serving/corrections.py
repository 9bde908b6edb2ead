"""`Corrections`: what people say is wrong, kept as a table to train on.

| time | sha256 | said | label | picture |
|---|---|---|---|---|
| 2026-11-02T09:14:03+00:00 | 3f0a… | dunnock | wren | |

`corrections.csv` has every one. Pictures are kept only where that was asked for; then `decisions.csv` beside it names
them, as `fieldmark train --decisions` reads it.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import final

from fieldmark.core.errors import RunError
from fieldmark.core.locks import lock
from fieldmark.core.reading import read_json
from fieldmark.core.storage import append_row, make_folder, write_bytes, write_json
from fieldmark.data.decisions import COLUMNS
from fieldmark.serving.limits import Limits
from fieldmark.serving.refusal import Refusal

__all__ = ["Corrections"]

_HEADER = ("time", "sha256", "said", "label", "picture")
_BLOCK = 4096
"""Bytes that a file counts at least: there could be millions of pictures of 70 bytes."""
_ROWS = 2048
"""Bytes for the rows of a correction: more than they have, where names are no longer than a line."""
_EVERY = 60.0
"""Seconds from one look at a full folder to the next: there may be a quarter of a million pictures."""


@final
class Corrections:
    """Corrections in a folder."""

    def __init__(
        self,
        folder: Path,
        *,
        keep_pictures: bool = False,
        most: int = Limits.kept,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The folder is filled up to `most` bytes. Nothing is written before the first correction."""
        self.folder, self.keep_pictures, self.most, self._clock = folder, keep_pictures, most, clock
        self._looked = -math.inf
        self._one = threading.Lock()

    def add(self, picture: bytes, suffix: str, said: str, label: str) -> None:
        """Keep one; once this returns, it survives a crash. `suffix` is that of the picture's format, such as ".jpg".

        Raises StorageError if it cannot be written, and Refusal if the folder is full.
        """
        digest = hashlib.sha256(picture).hexdigest()
        with self._one:
            make_folder(self.folder)
            with lock(self.folder / ".lock"):  # another service may write there, too
                path = self._pictures / f"{digest}{suffix}"
                new = self.keep_pictures and not path.exists()
                self._make_room(max(_BLOCK, len(picture)) if new else 0)
                if new:
                    write_bytes(path, picture)
                kept = path.as_posix() if self.keep_pictures else ""
                now = datetime.now(UTC).isoformat(timespec="seconds")
                append_row(self._corrections, _HEADER, (now, digest, said, label, kept))
                if kept:
                    append_row(self._decisions, COLUMNS, (kept, "label", label))

    @property
    def _corrections(self) -> Path:
        return self.folder / "corrections.csv"

    @property
    def _decisions(self) -> Path:
        return self.folder / "decisions.csv"

    @property
    def _pictures(self) -> Path:
        return self.folder.resolve() / "pictures"

    @property
    def _count(self) -> Path:
        """Holds how many bytes the pictures have. It lies with them, for all services there, and is moved with them."""
        return self.folder / ".count.json"

    def _make_room(self, more: int) -> None:
        """Count so many bytes of a picture. Raises Refusal if the folder would hold too many."""
        room = self.most - _ROWS - _size(self._corrections) - _size(self._decisions)
        held = self._counted()
        if held is None or (held + more > room and self._clock() - self._looked >= _EVERY):
            self._looked = self._clock()
            found = self._pictures.iterdir() if self._pictures.is_dir() else ()
            held = sum(max(_BLOCK, _size(path)) for path in found)
            write_json(self._count, held)
        if held + more > room:
            raise Refusal(507, "No more corrections are kept: their folder is full", "Tell whoever runs this service.")
        if more:
            write_json(self._count, held + more)

    def _counted(self) -> int | None:
        """What the pictures are known to have."""
        try:
            return read_json(self._count, int)
        except (OSError, RunError):
            return None


def _size(path: Path) -> int:
    """The bytes of a file; 0 if it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
