"""`FolderStore`: a gallery in a folder of its own, which is an append-only log and nothing else that matters.

Shapes: N pictures, D embedding.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import final

import numpy as np

from fieldmark.core.claims import claimed
from fieldmark.core.errors import DataWarning, RunError, StorageError
from fieldmark.gallery.approximate import INSTALL, Graph, is_available
from fieldmark.gallery.log import AGAIN, NAME, Addition, LogReader, LogWriter, Removal, write_log
from fieldmark.gallery.store import Added, Description, Entry, Hit, Vectors, Wanted, sorted_out
from fieldmark.gallery.vectors import Shelf, merged

__all__ = ["LARGE", "FolderStore"]

LARGE = 100_000
"""The number of pictures from which an approximate index pays."""
_LAG = 0.1
"""The share of the pictures that may be newer than the index before it is brought up to date."""
_STEP = 10_000
_MOST_IDS = 2**62
_SPARE = 64
"""How many more neighbours the index is asked for than are wanted: some may have been removed since."""


@final
class FolderStore:
    """A gallery in a folder. One process may write, any number may read meanwhile."""

    def __init__(self, folder: Path, *, writing: bool = False, new: Description | None = None) -> None:
        """Open a gallery, for `writing` or reading; make a `new` one where there is none.

        Raises RunError if there is none, if it is damaged, or if another process writes there, and StorageError if
        nothing can be written.
        """
        self.folder = folder
        self._stack = ExitStack()
        self._writer: LogWriter | None = None
        self._graph: Graph | None = None
        self._looked_for_graph = False
        with ExitStack() as undo:
            if writing:
                busy = RunError(
                    f"Another process is writing into the gallery {folder}",
                    "Wait until it has finished; searching is possible meanwhile.",
                )
                undo.enter_context(claimed(folder, "a gallery", busy=busy, option="--gallery"))
                if new is not None and not (folder / NAME).exists():
                    write_log(folder / NAME, new)
            self._read()
            if writing:
                self._writer = LogWriter(self._log)
                undo.callback(self._writer.close)
                if self._writer.cut:
                    warnings.warn(
                        f"{folder / NAME}: the last {self._writer.cut:,} bytes, of an addition that was cut short, "
                        "are gone; index its photographs again",
                        DataWarning,
                        stacklevel=2,
                    )
            self._stack = undo.pop_all()

    def _read(self) -> None:
        self._log = LogReader(self.folder / NAME)
        self._shelf = Shelf(self.description["dimension"])
        self._next = 0
        """The id that was never used."""
        self._follow()

    def _follow(self) -> None:
        """Read what was added and removed since."""
        for change in self._log.read():
            if isinstance(change, Removal):
                self._shelf.take(change.id)
                self._next = max(self._next, change.id + 1)
            elif not self._next <= change.entry.id < _MOST_IDS:
                raise RunError(f"{self._log.path} is damaged: the id {change.entry.id} comes after {self._next}", AGAIN)
            else:
                self._shelf.put(*change)
                self._next = max(self._next, change.entry.id + 1)
        if not self._shelf.is_finite():
            raise RunError(f"{self._log.path} is damaged: it holds vectors that are not numbers", AGAIN)

    @property
    def description(self) -> Description:
        return self._log.description

    @property
    def place(self) -> str:
        return str(self.folder)

    def __len__(self) -> int:
        return len(self._shelf)

    def entries(self) -> Iterator[Entry]:
        yield from list(self._shelf.entries.values())

    def contents(self) -> Iterator[tuple[Entry, Vectors]]:
        for entry in self.entries():
            yield entry, self._shelf.vector(entry.id)

    def known(self, digests: Iterable[str], paths: Iterable[str]) -> list[Entry]:
        return self._shelf.known(set(digests), set(paths))

    def add(self, entries: Sequence[Entry], vectors: Vectors) -> Added:
        writer = self._writing()
        known = self.known((one.digest for one in entries), (one.path for one in entries))
        found = sorted_out(entries, known)
        dtype = np.dtype(self.description["dtype"])
        numbered = [
            Addition(entries[row]._replace(id=self._next + at), vectors[row].astype(dtype))
            for at, row in enumerate(found.rows)
        ]
        self._next += len(numbered)
        if numbered or found.stale:
            writer.append([*map(Removal, sorted(found.stale)), *numbered])
        for number in found.stale:
            self._shelf.take(number)
        for addition in numbered:
            self._shelf.put(*addition)
        return found.counts

    def remove(self, ids: Iterable[int]) -> int:
        gone = [number for number in dict.fromkeys(ids) if number in self._shelf.entries]
        if gone:
            self._writing().append(map(Removal, gone))
        return sum(map(self._shelf.take, gone))

    def search(self, vector: Vectors, most: int, wanted: Wanted) -> list[Hit]:
        graph = self._usable_graph()
        asked = most + _SPARE + (0 if wanted.all else self._shelf.left_out(wanted))
        if graph is None or asked > max(1000, 4 * most):  # a graph cannot leave out: it would be asked for everything
            return self._shelf.search(vector, most, wanted)
        there = [
            Hit(entry, min(1.0, float(self._shelf.vector(number) @ vector)))
            for number, _ in graph.search(vector, asked)
            if (entry := self._shelf.entries.get(number)) and self._shelf.fits(entry, wanted)
        ]
        later = self._shelf.search(vector, most, wanted, since=self._shelf.after(graph.newest))
        return merged(there, later, most)

    def tidy(self) -> None:
        """Rewrite a log of which most is removed, and bring the index of a large gallery up to date."""
        if self._shelf.num_rows > 2 * len(self._shelf):
            self.compact()
        if len(self) > LARGE:
            self.build_graph()

    def compact(self) -> None:
        """Write the log anew, without what was removed. A crash leaves the old one or the new one."""
        self._writing().close()
        shelf, entries = self._shelf, list(self.entries())
        kept = (Addition(one, shelf.vector(one.id)) for one in entries)
        newest = () if self._next - 1 in shelf.entries else (Removal(self._next - 1),)  # so that no id comes again
        write_log(self._log.path, self.description, itertools.chain(kept, newest))
        self._read()
        self._writer = LogWriter(self._log)
        self._stack.callback(self._writer.close)

    def build_graph(self) -> bool:
        """Bring the approximate index up to date, unless it lags a little only. False where usearch is missing."""
        self._writing()
        if not is_available():
            _tell_of_usearch(len(self))
            return False
        graph = self._load_graph() or Graph(self.description["dimension"])
        newer = [number for number in self._shelf.entries if number > graph.newest]
        if len(newer) <= _LAG * len(self) and len(graph):
            self._graph = graph
            return True
        graph.keep(number for number in self._shelf.entries if number <= graph.newest)
        for at in range(0, len(newer), _STEP):
            some = newer[at : at + _STEP]
            graph.add(some, np.stack([self._shelf.vector(number) for number in some]))
        graph.save(self.folder, self.description["id"])
        self._graph = graph
        return True

    def close(self) -> None:
        self._stack.close()

    def _writing(self) -> LogWriter:
        assert self._writer is not None, "the gallery is open for reading"
        return self._writer

    def _usable_graph(self) -> Graph | None:
        """The index, if the gallery is so large that it pays; read when it is first needed."""
        if len(self) > LARGE and not self._looked_for_graph:
            self._looked_for_graph = True
            if is_available():
                self._graph = self._graph or self._load_graph()
            else:
                _tell_of_usearch(len(self))
        return self._graph

    def _load_graph(self) -> Graph | None:
        """The index beside the log; None with a warning if it is damaged: everything is searched exactly then."""
        try:
            return Graph.load(self.folder, self.description["id"], self.description["dimension"])
        except (RunError, StorageError, RuntimeError, ValueError) as error:
            told = error.problem if isinstance(error, RunError | StorageError) else str(error)
            warnings.warn(
                f"{told}; the gallery is searched without it, and the next `fieldmark index` writes it again",
                DataWarning,
                stacklevel=2,
            )
            return None


def _tell_of_usearch(number: int) -> None:
    warnings.warn(
        f"The gallery has {number:,} pictures, and each search looks at all of them. An index makes it faster: "
        f"{INSTALL}, then run `fieldmark index` again",
        DataWarning,
        stacklevel=3,
    )
