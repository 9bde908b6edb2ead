"""Which engine is faster for a bundle on this machine, as it was found out once; kept in the user's cache.

    <cache>/engines/
      <key>/choice.json    which one, and why; its time is that of the last use
      <key>/model.onnx     the graph, if it is used; choice.json has its SHA-256
      .lock                held by the process that finds out

The key is a hash of the bundle's state and of all that speed depends on, so a bundle that has changed and another
machine have entries of their own. Everything here can be deleted.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

from annotated_types import Len
from typing_extensions import TypedDict

from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.locks import lock
from fieldmark.core.machine import num_threads, processor
from fieldmark.core.reading import read_json
from fieldmark.core.storage import as_json, cache_folder, make_folder, sweep, write_bytes, write_json
from fieldmark.core.version import version
from fieldmark.runs.description import known_bytes
from fieldmark.runs.exported import ONNX

if TYPE_CHECKING:
    from fieldmark.runs.bundle import Bundle

__all__ = ["Choice", "Entry", "circumstances"]

_CHOICE = "choice.json"
_MOST_BYTES = 2 * 10**9
"""What all entries may take."""
_KEY = re.compile("[0-9a-f]{32}")
"""The name of an entry."""
_SPARE_BYTES = 2**30
"""Left free on the disk."""


class Circumstances(TypedDict):
    """What the speed of an engine depends on, beside the network."""

    fieldmark: str
    torch: str
    onnxruntime: str
    processor: str
    threads: int


class Choice(TypedDict):
    """choice.json."""

    engine: Literal["torch", "onnx"]
    """The faster one of those that give the same answers."""
    why: str
    """What ONNX Runtime does or does not; a clause about "it"."""
    sha256: Annotated[str, Len(64, 64)] | None
    """Of the graph; None if none is kept: it answers otherwise, or is slower and was not asked for by name."""
    seconds_per_image: dict[str, float]
    """By engine; {} if it did not come to that."""
    checked: dict[str, Any]
    """How the answers of both differ; {} likewise."""
    took: float
    """How many seconds it took to find out."""
    circumstances: Circumstances


def circumstances() -> Circumstances:
    """Those of this process. It takes no import of either engine."""
    return {
        "fieldmark": version(),
        "torch": _installed("torch"),
        "onnxruntime": _installed("onnxruntime"),
        "processor": processor(),
        "threads": num_threads(),
    }


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


@final
@dataclass(frozen=True)
class Entry:
    """The place of what is known about a bundle."""

    folder: Path

    @classmethod
    def of(cls, bundle: Bundle) -> Entry | None:
        """None for a bundle that does not say which weights are its own: not saved, or of an earlier version."""
        if bundle.index is None:
            return None
        key = hashlib.sha256(as_json([bundle.state, circumstances()]).encode()).hexdigest()[:32]
        return cls(cache_folder() / "engines" / key)

    @contextmanager
    def lock(self, *, wait: bool) -> Iterator[bool]:
        """Hold the right to try, which only one process has: others would disturb the timing.

        Without `wait`, yield False at once if another has it. Raises StorageError or OSError where nothing can be kept.
        """
        with lock(make_folder(self.folder.parent) / ".lock", wait=wait) as held:
            if held:
                _check_disk(self.folder.parent, 0)
            yield held

    def read(self) -> Choice | None:
        """None if nothing is known, or if it is damaged."""
        try:
            choice = read_json(self.folder / _CHOICE, Choice)
        except (OSError, RunError):
            return None
        with suppress(OSError):  # a cache that may only be read
            (self.folder / _CHOICE).touch()
        return choice

    def graph(self, choice: Choice) -> bytes | None:
        """The graph that belongs to a choice; None if there is none, or if it is damaged."""
        if choice["sha256"] is None:
            return None
        try:
            return known_bytes(self.folder / ONNX, {ONNX: choice["sha256"]})
        except (OSError, RunError):
            return None

    def keep(self, choice: Choice, graph: bytes | None) -> None:
        """Write it, in place of what was there, while the lock is held; entries that were not used for longest make
        room.

        Raises StorageError or OSError where there is no room, or no right to write.
        """
        _make_room(self.folder, len(graph or b""))
        make_folder(self.folder)
        sweep(self.folder)
        (self.folder / _CHOICE).unlink(missing_ok=True)  # a crash in between leaves a graph that nobody uses
        if graph is None:
            (self.folder / ONNX).unlink(missing_ok=True)
        else:
            write_bytes(self.folder / ONNX, graph)
        write_json(self.folder / _CHOICE, choice)


def _make_room(own: Path, size: int) -> None:
    """Remove entries until there is room for a graph of this size, and all that a killed process left unfinished.

    Whatever else lies in the folder stays.
    """
    entries = (one for one in own.parent.iterdir() if _KEY.fullmatch(one.name) and one.is_dir() and one != own)
    others = sorted(entries, key=_last_use)
    taken = size + sum(map(_size, others))
    for entry in others:
        if _last_use(entry) and taken <= _MOST_BYTES:
            break
        taken -= _size(entry)
        _remove(entry)
    _check_disk(own.parent, size)


def _last_use(entry: Path) -> float:
    """0 for what was never finished."""
    choice = entry / _CHOICE
    return choice.stat().st_mtime if choice.exists() else 0.0


def _size(entry: Path) -> int:
    return sum(file.lstat().st_size for file in entry.iterdir())


def _remove(entry: Path) -> None:
    sweep(entry)
    with suppress(OSError):  # what is in use, or gone already, can wait for the next time
        for name in (_CHOICE, ONNX):
            (entry / name).unlink(missing_ok=True)
        entry.rmdir()


def _check_disk(folder: Path, size: int) -> None:
    """Raise StorageError if so many bytes are too many."""
    if size > _MOST_BYTES or shutil.disk_usage(folder).free < size + _SPARE_BYTES:
        raise StorageError(f"There is no room for a graph in {folder}", "Free some space.")
