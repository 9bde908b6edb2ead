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
from fieldmark.serving.refusal import Refusal

__all__ = ["Corrections"]

_HEADER = ("time", "sha256", "said", "label", "picture")
_MOST = 20_000
"""Corrections that one service takes, since anybody who reaches it may send some."""


@final
class Corrections:
    """Corrections in a folder."""

    def __init__(self, folder: Path, *, keep_pictures: bool = False) -> None:
        """Nothing is written before the first correction."""
        self.folder, self.keep_pictures = folder, keep_pictures
        self._taken = 0
        self._one = threading.Lock()

    def add(self, picture: bytes, suffix: str, said: str, label: str) -> None:
        """Keep one; once this returns, it survives a crash. `suffix` is that of the picture's format, such as ".jpg".

        Raises StorageError if it cannot be written, and Refusal if there have been too many.
        """
        digest = hashlib.sha256(picture).hexdigest()
        with self._one:
            if self._taken >= _MOST:
                raise Refusal(
                    507, f"This service has taken {_MOST:,} corrections", "It must be restarted to take more."
                )
            self._taken += 1
            make_folder(self.folder)
            with lock(self.folder / ".lock"):  # another service may write there, too
                kept = self._kept(picture, f"{digest}{suffix}") if self.keep_pictures else ""
                now = datetime.now(UTC).isoformat(timespec="seconds")
                self._append("corrections.csv", _HEADER, (now, digest, said, label, kept))
                if kept:
                    self._append("decisions.csv", COLUMNS, (kept, "label", label))

    def _kept(self, picture: bytes, name: str) -> str:
        path = self.folder.resolve() / "pictures" / name
        if not path.exists():
            write_bytes(path, picture)
        return path.as_posix()

    def _append(self, name: str, header: Sequence[str], row: Sequence[str]) -> None:
        append_row(self.folder / name, header, row)
