"""`QdrantStore`: a gallery in a folder of Qdrant's, by its client's local mode, which needs no server.

The client keeps points as pickles and looks at each of them for every answer: this is for trying Qdrant out, and only a
folder of one's own may be opened.

Shapes: N pictures, D embedding.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from fieldmark.core.claims import claim
from fieldmark.core.errors import RunError
from fieldmark.core.locks import lock
from fieldmark.core.reading import read_json
from fieldmark.core.storage import write_json
from fieldmark.gallery.store import Absent, Added, Description, Entry, Hit, Vectors, Wanted, sorted_out

if TYPE_CHECKING:
    from qdrant_client.models import Filter

__all__ = ["INSTALL", "QdrantStore"]

INSTALL: Final = "pip install 'fieldmark[qdrant]'"
_ABOUT, _LOCK, _COLLECTION, _PAGE = "fieldmark.json", ".fieldmark.lock", "fieldmark", 10_000


@final
class QdrantStore:
    """A gallery in a folder of Qdrant's. One process at a time may open it."""

    def __init__(self, folder: Path, *, new: Description | None = None) -> None:
        """Raises RunError if there is no such gallery and no `new` one is given, or if another process has it."""
        try:
            from qdrant_client import QdrantClient, models
        except ImportError:
            raise RunError("A gallery in Qdrant needs the package qdrant-client", INSTALL) from None
        self._models, self.folder, self.place = models, folder, f"qdrant:{folder}"
        if new is None and not (folder / _ABOUT).exists():
            raise Absent(f"There is no gallery at {self.place}", "Make one with: fieldmark index RUN --gallery …")
        claim(folder, "a gallery in Qdrant", option="--gallery")
        busy = RunError(f"Another process uses the gallery {self.place}", "Wait until it has finished.")
        with ExitStack() as undo:
            if not undo.enter_context(lock(folder / _LOCK, wait=False)):
                raise busy
            try:
                self._client = QdrantClient(path=str(folder))
            except RuntimeError as error:  # of a program that is not Fieldmark
                if "already accessed" not in str(error):
                    raise
                raise busy from None
            undo.callback(self._client.close)
            self._prepare(new)
            self._last = 0
            self._stack = undo.pop_all()

    def _prepare(self, new: Description | None) -> None:
        folder, models = self.folder, self._models
        if new is not None and not (folder / _ABOUT).exists():
            size = models.VectorParams(size=new["dimension"], distance=models.Distance.DOT)
            self._client.delete_collection(_COLLECTION)  # of a start that was killed before the next line
            self._client.create_collection(_COLLECTION, vectors_config=size)
            write_json(folder / _ABOUT, new)
        self.description = read_json(folder / _ABOUT, Description)

    def __len__(self) -> int:
        return int(self._client.count(_COLLECTION).count)

    def entries(self) -> Iterator[Entry]:
        yield from sorted(self._scrolled(None), key=lambda entry: entry.id)

    def contents(self) -> Iterator[tuple[Entry, Vectors]]:
        found = [(_entry(point), np.array(point.vector, np.float32)) for point in self._points(None, vectors=True)]
        yield from sorted(found, key=lambda one: one[0].id)

    def known(self, digests: Iterable[str], paths: Iterable[str]) -> list[Entry]:
        models = self._models
        either = [
            models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))
            for key, values in (("digest", digests), ("path", paths))
        ]
        return self._scrolled(models.Filter(should=either))

    def add(self, entries: Sequence[Entry], vectors: Vectors) -> Added:
        found = sorted_out(entries, self.known([one.digest for one in entries], [one.path for one in entries]))
        if found.rows:
            points = [
                self._models.PointStruct(
                    id=self._new_id(), vector=vectors[row].tolist(), payload=entries[row]._asdict() | {"id": None}
                )
                for row in found.rows
            ]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that local mode is slow for many points is said in the guide
                self._client.upsert(_COLLECTION, points)
        self.remove(found.stale)  # last: a crash may leave both, and never neither
        return found.counts

    def remove(self, ids: Iterable[int]) -> int:
        gone: list[Any] = list(ids)
        before = len(self)
        if gone:
            self._client.delete(_COLLECTION, self._models.PointIdsList(points=gone))
        return before - len(self)

    def search(self, vector: Vectors, most: int, wanted: Wanted) -> list[Hit]:
        models = self._models

        def equal(key: str, value: str | None) -> list[Any]:
            match = None if value is None else models.MatchValue(value=value)
            return [models.FieldCondition(key=key, match=match)] if match else []

        chosen = models.Filter(
            must=equal("label", wanted.label),
            must_not=equal("group", wanted.not_group) + equal("digest", wanted.not_digest),
        )
        found = self._client.query_points(
            _COLLECTION, query=vector.tolist(), query_filter=chosen, limit=most, with_payload=True
        )
        return [Hit(_entry(point), min(1.0, float(point.score))) for point in found.points]

    def tidy(self) -> None:
        """There is nothing that would help."""

    def close(self) -> None:
        self._stack.close()

    def _scrolled(self, chosen: Filter | None) -> list[Entry]:
        return list(map(_entry, self._points(chosen)))

    def _points(self, chosen: Filter | None, *, vectors: bool = False) -> Iterator[Any]:
        offset = None
        while True:
            points, offset = self._client.scroll(
                _COLLECTION,
                scroll_filter=chosen,
                limit=_PAGE,
                offset=offset,
                with_payload=True,
                with_vectors=vectors,
            )
            yield from points
            if offset is None:
                return

    def _new_id(self) -> int:
        """Larger than all before, and never given again."""
        self._last = max(self._last + 1, time.time_ns())
        return self._last


def _entry(point: Any) -> Entry:
    return Entry(**{**point.payload, "id": point.id})
