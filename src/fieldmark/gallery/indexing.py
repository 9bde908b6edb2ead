"""Photographs go into a gallery batch by batch: what is there already is not looked at again."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from fieldmark.answering.stream import BATCH, Shown, stream
from fieldmark.answering.things import Skipped
from fieldmark.core.errors import DataError
from fieldmark.core.listener import Listener
from fieldmark.core.machine import num_decoders
from fieldmark.core.wording import counted
from fieldmark.gallery.embedding import WHOLE, Embed
from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.photographs import Photograph
from fieldmark.gallery.store import Added, Entry, Vectors, sorted_out

__all__ = ["Indexed", "fill"]


@final
@dataclass(frozen=True)
class Indexed:
    """What became of photographs that were to be indexed."""

    place: str
    counts: Added
    skipped: tuple[Skipped, ...]
    size: int
    """The number of pictures in the gallery now."""
    removed: int = 0

    def __repr__(self) -> str:
        return f"Indexed({self.place!r}: {self.said})"

    @property
    def said(self) -> str:
        """What was done, in words."""
        done = {
            "added": self.counts.added,
            "replaced": self.counts.replaced,
            "there already": self.counts.known,
            "removed": self.removed,
            "skipped": len(self.skipped),
        }
        told = ", ".join(f"{number:,} {what}" for what, number in done.items() if number) or "nothing to do"
        return f"{told}; the gallery holds {counted(self.size, 'photograph')}"


def fill(
    galleries: Mapping[str | None, Gallery],
    pictures: Sequence[Photograph],
    see: Callable[[Photograph], Shown],
    embed: Embed,
    listener: Listener,
) -> tuple[Added, tuple[Skipped, ...]]:
    """Add pictures to the gallery of wholes and to those of parts, and tell which could not be read.

    If it is stopped, the same goes on where it was. Counts are of the gallery of wholes. Raises DataError for a picture
    that is no file, and StorageError if a gallery cannot be written.
    """
    counts, done = Added(), 0
    skipped: list[Skipped] = []
    fresh = _Fresh(galleries, pictures)
    with listener.progress("Indexing") as tick:
        for answered in stream(fresh, see, embed, threads=num_decoders()):
            skipped += [Skipped(one.thing.name, str(error)) for one, error in answered.skipped]
            if answered.output is not None:
                counts += _add(galleries, [one.entry() for one in answered.readable], answered.output)
            done += len(answered.things)
            tick(done + fresh.known, len(pictures))
        tick(len(pictures), len(pictures))
    return counts + Added(known=fresh.known), tuple(skipped)


def _add(galleries: Mapping[str | None, Gallery], entries: list[Entry], vectors: Mapping[str | None, Vectors]) -> Added:
    """Add to the galleries of parts first: what the gallery of wholes has is complete."""
    counts = Added()
    for space in sorted(galleries, key=lambda space: space is WHOLE):
        shows = [bool(np.isfinite(vector).all()) for vector in vectors[space]]
        there = [entry for entry, one in zip(entries, shows, strict=True) if one]
        unseen = [entry.path for entry, one in zip(entries, shows, strict=True) if not one]
        galleries[space].remove(galleries[space].known(paths=unseen))  # the file that was there showed the part
        counts = galleries[space].add(there, vectors[space][np.array(shows)])
    return counts


class _Fresh(Iterable[Photograph]):
    """The pictures that the galleries do not have yet, with their digests."""

    def __init__(self, galleries: Mapping[str | None, Gallery], pictures: Iterable[Photograph]) -> None:
        self.galleries, self.pictures = galleries, pictures
        self.known = 0
        """The number of those that they have."""

    def __iter__(self) -> Iterator[Photograph]:
        pictures = iter(self.pictures)
        while some := [one.identified() for one in itertools.islice(pictures, BATCH)]:
            for one in some:
                if not isinstance(one.thing.source, Path):
                    raise DataError(f"A gallery holds files, and {one.thing.name} is none", "Give the paths of files.")
            files = [one for one in some if one.digest]
            rows = self._rows([one.entry() for one in files])
            self.known += len(files) - len(rows)
            yield from (files[row] for row in sorted(rows))
            yield from (one for one in some if not one.digest)

    def _rows(self, entries: list[Entry]) -> set[int]:
        """The entries to embed: those that are new to the gallery of wholes, or to all galleries of parts (a picture
        need not show each part). A file that has moved is new, so that its path is the one where it lies."""
        lacking: dict[str | None, set[int]] = {}
        digests = {one.digest for one in entries}
        for space, gallery in self.galleries.items():
            there = gallery.known((one.digest for one in entries), (one.path for one in entries))
            moved = [one for one in there if one.digest in digests and not os.path.exists(one.path)]
            gallery.remove(moved)
            there = [one for one in there if one not in moved]
            found = sorted_out(entries, there)
            paths = {entries[row].path for row in found.rows}
            gallery.remove(one for one in there if one.id in found.stale and one.path not in paths)
            lacking[space] = set(found.rows)
        whole = lacking.pop(WHOLE)
        return whole | (set.intersection(*lacking.values()) if lacking else set())
