"""`Graph`: an approximate index of many vectors, a cache beside the log that can be rebuilt from it.

It is an HNSW graph by usearch, which can also remove; other libraries search faster and cannot. Its file is read only
if its SHA-256 is the one that was written: usearch does not check, and a flipped byte ends the process. index.json says
of which log it is and how far it goes; what came later is searched exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, final

import numpy as np
from annotated_types import Ge, Len
from numpy.typing import NDArray
from typing_extensions import TypedDict

from fieldmark.core.errors import RunError
from fieldmark.core.reading import read_json, read_regular
from fieldmark.core.storage import write_bytes, write_json
from fieldmark.gallery.store import Vectors

if TYPE_CHECKING:
    from usearch.index import Index

__all__ = ["INSTALL", "Graph", "is_available"]

INSTALL: Final = "pip install 'fieldmark[gallery]'"
_FILE, _ABOUT = "index.usearch", "index.json"
_CONNECTIVITY, _EXPANSION_ADD, _EXPANSION_SEARCH = 32, 128, 256
_MOST_BYTES = 2**40


class About(TypedDict):
    """index.json."""

    log: str
    """The id of the gallery."""
    newest: Annotated[int, Ge(-1)]
    """The highest id that the log had when this was built. Ids ascend, so what has a higher one came later."""
    sha256: Annotated[str, Len(64, 64)]


def is_available() -> bool:
    """Whether usearch is installed."""
    try:
        import usearch.index  # noqa: F401  (whether it is there is all that is asked)
    except ImportError:
        return False
    return True


@final
class Graph:
    """Finds neighbours without looking at every vector."""

    def __init__(self, dimension: int) -> None:
        from usearch.index import Index

        self._index: Index = Index(
            ndim=dimension,
            metric="ip",
            dtype="f16",
            connectivity=_CONNECTIVITY,
            expansion_add=_EXPANSION_ADD,
            expansion_search=_EXPANSION_SEARCH,
        )
        self.newest = -1
        """The highest id in it; pictures with higher ones were added later."""

    def __len__(self) -> int:
        return len(self._index)

    @classmethod
    def load(cls, folder: Path, log: str, dimension: int) -> Graph | None:
        """The graph of a log, or None if there is none. Raises RunError if it is damaged."""
        try:
            about = read_json(folder / _ABOUT, About)
            data = read_regular(folder / _FILE, most=_MOST_BYTES)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunError(f"{folder / _FILE} cannot be read: {error}") from None
        if about["log"] != log:
            return None
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            raise RunError(f"{folder / _FILE} is damaged: its SHA-256 is not the one in {_ABOUT}")
        graph = cls(dimension)
        graph._index.load(data)
        graph.newest = about["newest"]
        return graph

    def save(self, folder: Path, log: str) -> None:
        """Write it beside its log, which has this id. Raises StorageError."""
        data = bytes(self._index.save() or b"")
        write_bytes(folder / _FILE, data)
        digest = hashlib.sha256(data).hexdigest()
        about: About = {"log": log, "newest": self.newest, "sha256": digest}
        write_json(folder / _ABOUT, about)

    def add(self, ids: Sequence[int], vectors: NDArray[np.floating]) -> None:
        """Add vectors (N, D) of unit length; the ids ascend."""
        self._index.add(np.asarray(ids, np.uint64), np.ascontiguousarray(vectors))
        self.newest = max(self.newest, *ids)

    def keep(self, ids: Iterable[int]) -> None:
        """Remove all but these."""
        there: NDArray[Any] = np.asarray(self._index.keys, np.int64)
        gone = np.setdiff1d(there, np.fromiter(ids, np.int64))
        if len(gone):
            self._index.remove(gone.astype(np.uint64))

    def search(self, vector: Vectors, most: int) -> list[tuple[int, float]]:
        """Ids and cosines of about the most similar ones, the most similar first."""
        found = self._index.search(vector, most, threads=1)
        return [(int(key), 1.0 - float(distance)) for key, distance in zip(found.keys, found.distances, strict=True)]
