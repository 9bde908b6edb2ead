"""`Gallery`: pictures with their embeddings, in a folder or a database.

Shapes: N pictures, D embedding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, final

import numpy as np

from fieldmark.core.errors import DataError, RunError
from fieldmark.core.wording import counted
from fieldmark.gallery.maker import check_maker, describe
from fieldmark.gallery.opening import open_store
from fieldmark.gallery.store import Added, Description, Entry, Hit, Maker, Store, Vectors, Wanted

__all__ = ["Gallery"]

_UNIT = 1e-2
"""How far the length of an embedding may be from 1."""


@final
class Gallery:
    """Pictures that can be searched by likeness.

    >>> with fieldmark.Gallery.open("runs/birds/gallery") as gallery:
    ...     gallery.search(predictor.embed("new.jpg")[0], most=5)

    A gallery belongs to one network with its weights and its view of pictures, not to classes: one that learns a new
    class goes on with its gallery.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def __repr__(self) -> str:
        return f"Gallery({self.store.place!r}, {counted(len(self), 'picture')}, {self.maker['network']})"

    @classmethod
    def open(
        cls, place: Path | str, maker: Maker | None = None, *, writing: bool = False, hint: str | None = None
    ) -> Gallery:
        """Open a gallery: a folder, `postgresql://…` or `qdrant:FOLDER`.

        With a `maker`, only a gallery of that maker (see `fieldmark.gallery.maker`). Raises RunError if there is none,
        if it is damaged or, with this `hint`, of another maker, or if another process is writing there while this wants
        to.
        """
        return cls._of(open_store(place, writing=writing), maker, hint)

    @classmethod
    def make(cls, place: Path | str, maker: Maker, dimension: int, *, hint: str | None = None) -> Gallery:
        """Open a gallery of this maker for writing, and make it if there is none. The `hint` is for one of another."""
        return cls._of(open_store(place, writing=True, new=describe(maker, dimension)), maker, hint)

    @classmethod
    def _of(cls, store: Store, maker: Maker | None, hint: str | None) -> Gallery:
        gallery = cls(store)
        try:
            if maker is not None:
                check_maker(store.place, gallery.maker, maker, **({"hint": hint} if hint else {}))
        except RunError:
            gallery.close()
            raise
        return gallery

    @property
    def description(self) -> Description:
        return self.store.description

    @property
    def maker(self) -> Maker:
        """What made its embeddings."""
        return self.description["maker"]

    def __len__(self) -> int:
        return len(self.store)

    def __iter__(self) -> Iterator[Entry]:
        return self.store.entries()

    def contents(self) -> tuple[list[Entry], Vectors]:
        """The N pictures and their embeddings (N, D)."""
        found = list(self.store.contents())
        vectors = np.array([vector for _, vector in found], np.float32)
        return [entry for entry, _ in found], vectors.reshape(len(found), self.description["dimension"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def known(self, digests: Iterable[str] = (), paths: Iterable[str] = ()) -> list[Entry]:
        """The pictures with one of these digests or at one of these paths."""
        digests, paths = list(digests), list(paths)
        return self.store.known(digests, paths) if digests or paths else []

    def add(self, entries: Sequence[Entry], vectors: Vectors) -> Added:
        """Add pictures with their embeddings (N, D) of unit length. Once this returns, they survive a crash.

        A file that is there is passed over, and a new file at the same path replaces the old one. Raises DataError for
        vectors of another width or length.
        """
        if len(entries) != len(vectors):
            raise DataError(f"{counted(len(entries), 'picture')} came with {counted(len(vectors), 'vector')}")
        return self.store.add(entries, self._checked(vectors)) if entries else Added()

    def remove(self, entries: Iterable[Entry]) -> int:
        """Remove pictures, and return how many of these were there."""
        ids = [entry.id for entry in entries]
        return self.store.remove(ids) if ids else 0

    def below(self, *paths: Path | str) -> list[Entry]:
        """The pictures at these paths, or in these folders; the files may be gone."""
        names = [os.path.abspath(path) for path in paths]
        folders = tuple(os.path.join(name, "") for name in names)
        return [one for one in self if one.path in names or one.path.startswith(folders)]

    def search(self, vector: Vectors, most: int = 10, wanted: Wanted | None = None) -> list[Hit]:
        """The most similar pictures to an embedding (D,), the most similar first.

        Raises DataError for a vector of another width, and RunError if the gallery is empty.
        """
        (vector,) = self._checked(np.asarray(vector)[None])
        if not len(self):
            raise RunError(
                f"The gallery {self.store.place} is empty", "Add photographs with: fieldmark index RUN PHOTOS"
            )
        return self.store.search(vector, most, wanted or Wanted())

    def tidy(self) -> None:
        """Do what makes later searches faster, once there is nothing more to add."""
        self.store.tidy()

    def close(self) -> None:
        self.store.close()

    def _checked(self, vectors: Vectors) -> Vectors:
        """(N, D) float32. Raises DataError for another width or length."""
        vectors, dimension = np.asarray(vectors, np.float32), self.description["dimension"]
        if vectors.ndim != 2 or vectors.shape[1] != dimension:
            width = vectors.shape[-1] if vectors.ndim else 0
            raise DataError(
                f"The gallery {self.store.place} holds vectors of {dimension:,} numbers, and these have {width:,}",
                "They must be embeddings of the model that the gallery is of.",
            )
        lengths = np.linalg.norm(vectors, axis=1)
        if not (np.abs(lengths - 1) < _UNIT).all():
            raise DataError(
                "Embeddings in a gallery have unit length, and these have not",
                "`Predictor.embed` gives such ones; others can be divided by their lengths.",
            )
        return vectors
