"""Photographs go into a gallery batch by batch: what is there already is not looked at again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import BATCH, Shown, stream
from fieldmark.answering.things import Skipped
from fieldmark.core.errors import DataError
from fieldmark.core.listener import Listener
from fieldmark.core.wording import counted
from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.photographs import Photograph
from fieldmark.gallery.store import Added, Vectors, sorted_out

__all__ = ["Indexed", "fill", "unit", "width_of"]


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


def unit(vectors: NDArray[np.floating]) -> Vectors:
    """(N, D) with rows of unit length."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def width_of(predictor: Predictor) -> int:
    """D, the width of a predictor's embeddings."""
    side = predictor.bundle.images.size
    return predictor.engine(torch.zeros((1, 3, side, side), dtype=torch.uint8)).embedding.shape[1]


def fill(
    gallery: Gallery, pictures: Sequence[Photograph], predictor: Predictor, listener: Listener
) -> tuple[Added, tuple[Skipped, ...]]:
    """Add pictures, and tell those that could not be read. If it is stopped, what was counted is in the gallery.

    Raises DataError for a picture that is no file, and StorageError if the gallery cannot be written.
    """
    counts, done = Added(), 0
    skipped: list[Skipped] = []
    fresh = _Fresh(gallery, pictures)

    def see(one: Photograph) -> Shown:
        return predictor.see(one.thing)

    with listener.progress("Indexing") as tick:
        for answered in stream(fresh, see, predictor.engine):
            skipped += [Skipped(one.thing.name, str(error)) for one, error in answered.skipped]
            if answered.output is not None:
                entries = [one.entry() for one in answered.readable]
                counts += gallery.add(entries, unit(answered.output.embedding))
            done += len(answered.things)
            tick(done + fresh.known, len(pictures))
        tick(len(pictures), len(pictures))
    return counts + Added(known=fresh.known), tuple(skipped)


class _Fresh(Iterable[Photograph]):
    """The pictures that a gallery does not have yet, with their digests."""

    def __init__(self, gallery: Gallery, pictures: Iterable[Photograph]) -> None:
        self.gallery, self.pictures = gallery, pictures
        self.known = 0
        """The number of those that it has."""

    def __iter__(self) -> Iterator[Photograph]:
        pictures = iter(self.pictures)
        while some := [one.identified() for one in itertools.islice(pictures, BATCH)]:
            for one in some:
                if not isinstance(one.thing.source, Path):
                    raise DataError(f"A gallery holds files, and {one.thing.name} is none", "Give the paths of files.")
            files = [one for one in some if one.digest]
            entries = [one.entry() for one in files]
            there = self.gallery.known((one.digest for one in entries), (one.path for one in entries))
            found = sorted_out(entries, there)
            self.known += found.counts.known
            paths = {entries[row].path for row in found.rows}
            self.gallery.remove(one for one in there if one.id in found.stale and one.path not in paths)
            yield from (files[row] for row in found.rows)
            yield from (one for one in some if not one.digest)
