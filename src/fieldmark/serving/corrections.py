"""`Corrections`: what people say is wrong, kept as a table to train on.

| time | sha256 | said | label | picture |
|---|---|---|---|---|
| 2026-11-02T09:14:03+00:00 | 3f0a… | dunnock | wren | |

`corrections.csv` has every one. Pictures are kept only where that was asked for; then `decisions.csv` beside it names
them, as `fieldmark train --decisions` reads it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import final

from fieldmark.core.locks import lock
from fieldmark.core.storage import append_row, make_folder, write_bytes
from fieldmark.data.decisions import COLUMNS
from fieldmark.serving.limits import Limits
from fieldmark.serving.refusal import Refusal

__all__ = ["Corrections"]

_HEADER = ("time", "sha256", "said", "label", "picture")
_BLOCK = 4096
"""Bytes that a file counts at least: there could be millions of pictures of 70 bytes."""
_ROWS = 2048
"""Bytes that the rows of a correction count: more than they have, where names are no longer than a line."""


@final
class Corrections:
    """Corrections in a folder."""

    def __init__(self, folder: Path, *, keep_pictures: bool = False, most: int = Limits.kept) -> None:
        """The folder is filled up to `most` bytes. Nothing is written before the first correction."""
        self.folder, self.keep_pictures, self.most = folder, keep_pictures, most
        self._held: int | None = None
        self._one = threading.Lock()

    def add(self, picture: bytes, suffix: str, said: str, label: str) -> None:
        """Keep one; once this returns, it survives a crash. `suffix` is that of the picture's format, such as ".jpg".

        Raises StorageError if it cannot be written, and Refusal if the folder is full.
        """
        digest = hashlib.sha256(picture).hexdigest()
        with self._one:
            make_folder(self.folder)
            with lock(self.folder / ".lock"):  # another service may write there, too
                self._make_room(_ROWS + (max(_BLOCK, len(picture)) if self.keep_pictures else 0))
                kept = self._kept(picture, f"{digest}{suffix}") if self.keep_pictures else ""
                now = datetime.now(UTC).isoformat(timespec="seconds")
                self._append("corrections.csv", _HEADER, (now, digest, said, label, kept))
                if kept:
                    self._append("decisions.csv", COLUMNS, (kept, "label", label))

    def _make_room(self, more: int) -> None:
        """Count so many bytes. Raises Refusal if the folder would hold too many."""
        if self._held is None:  # what another service writes from now on is counted there
            self._held = sum(max(_BLOCK, path.stat().st_size) for path in self.folder.rglob("*") if path.is_file())
        if self._held + more > self.most:
            raise Refusal(507, "No more corrections are kept: their folder is full", "Tell whoever runs this service.")
        self._held += more

    def _kept(self, picture: bytes, name: str) -> str:
        path = self.folder.resolve() / "pictures" / name
        if not path.exists():
            write_bytes(path, picture)
        return path.as_posix()

    def _append(self, name: str, header: Sequence[str], row: Sequence[str]) -> None:
        append_row(self.folder / name, header, row)
