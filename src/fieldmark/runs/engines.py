"""Which engine is faster for a bundle on this machine, as it was found out once; kept in the user's cache.

    <cache>/engines/
      <key>/choice.json    which one, and why; its time is that of the last use
      <key>/model.onnx     the graph, if it answers as the network does; choice.json has its SHA-256
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
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, final

from annotated_types import Len
from typing_extensions import TypedDict

from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.locks import lock
from fieldmark.core.machine import num_threads, processor
from fieldmark.core.reading import read_json
from fieldmark.core.storage import as_json, cache_folder, make_folder, write_bytes, write_json
from fieldmark.core.version import version
from fieldmark.runs.description import known_bytes
from fieldmark.runs.exported import ONNX

if TYPE_CHECKING:
    from fieldmark.runs.bundle import Bundle

__all__ = ["Choice", "Entry", "Known", "circumstances"]

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
    """Of the graph; None if there is none that gives the same answers."""
    seconds_per_image: dict[str, float]
    """By engine; {} if it did not come to that."""
    checked: dict[str, Any]
    """How the answers of both differ; {} likewise."""
    took: float
    """How many seconds it took to find out."""
    circumstances: Circumstances


class Known(NamedTuple):
    """What was found out."""

    choice: Choice
    graph: bytes | None


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
    def lock(self) -> Iterator[None]:
        """Wait until no other process finds out anything, which would disturb the timing.

        Raises StorageError or OSError where nothing can be kept.
        """
        with lock(make_folder(self.folder.parent) / ".lock"):
            _check_disk(self.folder.parent, 0)
            yield

    def read(self) -> Known | None:
        """None if nothing is known, or if what is kept is damaged."""
        try:
            choice = read_json(self.folder / _CHOICE, Choice)
            graph = None if choice["sha256"] is None else known_bytes(self.folder / ONNX, {ONNX: choice["sha256"]})
        except (OSError, RunError):
            return None
        with suppress(OSError):  # a cache that may only be read
            (self.folder / _CHOICE).touch()
        return Known(choice, graph)

    def keep(self, known: Known) -> None:
        """Write it, in place of what was damaged; entries that were not used for longest make room.

        Raises StorageError or OSError where there is no room, or no right to write.
        """
        size = len(known.graph or b"")
        _make_room(self.folder, size)
        make_folder(self.folder)
        (self.folder / _CHOICE).unlink(missing_ok=True)  # a crash in between leaves a graph that nobody uses
        if known.graph is not None:
            write_bytes(self.folder / ONNX, known.graph)
        write_json(self.folder / _CHOICE, known.choice)


def _make_room(own: Path, size: int) -> None:
    """Remove entries until there is room for a graph of this size. Whatever else lies in the folder stays."""
    found = [choice for choice in own.parent.glob(f"*/{_CHOICE}") if _KEY.fullmatch(choice.parent.name)]
    others = [choice.parent for choice in sorted(found, key=lambda one: one.stat().st_mtime) if choice.parent != own]
    sizes = [sum(file.stat().st_size for file in entry.iterdir()) for entry in others]
    while others and sum(sizes) + size > _MOST_BYTES:
        entry, _ = others.pop(0), sizes.pop(0)
        with suppress(OSError):
            for name in (_CHOICE, ONNX):
                (entry / name).unlink(missing_ok=True)
            entry.rmdir()
    _check_disk(own.parent, size)


def _check_disk(folder: Path, size: int) -> None:
    """Raise StorageError if so many bytes are too many."""
    if size > _MOST_BYTES or shutil.disk_usage(folder).free < size + _SPARE_BYTES:
        raise StorageError(f"There is no room for a graph in {folder}", "Free some space.")
