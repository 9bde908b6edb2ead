"""`Shelf`: the vectors of a gallery in memory, and the search that looks at all of them.

Shapes: N pictures, D embedding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldmark.gallery.store import Entry, Hit, Vectors, Wanted

__all__ = ["Shelf", "merged"]

_BLOCK = 4096
"""Vectors that are looked at together: what a search takes beside the gallery itself is bounded by it."""
_NONE = -1


class Shelf:
    """Pictures and their vectors. A picture that is removed leaves a gap.

    Vectors are float32 here, whatever they are on disk: NumPy takes ten times as long to multiply halves.
    """

    def __init__(self, dimension: int) -> None:
        self.entries: dict[int, Entry] = {}
        """By id, in the order of their addition."""
        self._by_digest: dict[str, Entry] = {}
        self._by_path: dict[str, Entry] = {}
        self._rows: dict[int, int] = {}
        self._blocks: list[Vectors] = []
        self._shape = (_BLOCK, dimension)
        self._codes: dict[str | None, int] = {None: _NONE}
        self._table = np.zeros((0, 3), np.int64)
        """Row → id, or -1 for a gap; numbers of label and group."""
        self.num_rows = 0
        """With the gaps."""

    def __len__(self) -> int:
        return len(self.entries)

    def put(self, entry: Entry, vector: NDArray[np.floating]) -> None:
        row = self.num_rows
        if row == len(self._blocks) * _BLOCK:
            self._blocks.append(np.empty(self._shape, np.float32))
        if row == len(self._table):
            more = np.full((max(_BLOCK, row), 3), _NONE, np.int64)
            self._table = np.concatenate([self._table, more])
        self._blocks[row // _BLOCK][row % _BLOCK] = vector
        self._table[row] = entry.id, self._code(entry.label), self._code(entry.group)
        self.entries[entry.id] = self._by_digest[entry.digest] = self._by_path[entry.path] = entry
        self._rows[entry.id] = row
        self.num_rows += 1

    def take(self, number: int) -> bool:
        """Remove a picture; False if there is none of this id."""
        entry = self.entries.pop(number, None)
        if entry is None:
            return False
        for names, name in ((self._by_digest, entry.digest), (self._by_path, entry.path)):
            if names.get(name) is entry:
                del names[name]
        self._table[self._rows.pop(number)] = _NONE
        return True

    def known(self, digests: set[str], paths: set[str]) -> list[Entry]:
        """The pictures with one of these digests or at one of these paths."""
        found = [self._by_digest.get(one) for one in digests] + [self._by_path.get(one) for one in paths]
        return list({entry.id: entry for entry in found if entry}.values())

    def vector(self, number: int) -> Vectors:
        """(D,) of a picture."""
        row = self._rows[number]
        vector: Vectors = self._blocks[row // _BLOCK][row % _BLOCK]
        return vector

    def after(self, number: int) -> int:
        """The first row whose picture may have a higher id than this."""
        return next((row for one, row in reversed(self._rows.items()) if one <= number), -1) + 1

    def is_finite(self) -> bool:
        """Whether all vectors are numbers."""
        rows = (block[: self.num_rows - at * _BLOCK] for at, block in enumerate(self._blocks))
        return all(bool(np.isfinite(block).all()) for block in rows)

    def search(self, vector: Vectors, most: int, wanted: Wanted, *, since: int = 0) -> list[Hit]:
        """The most similar pictures by looking at all from row `since` on, the most similar first."""
        found: list[tuple[float, int]] = []
        fits = self._fitting(wanted)
        for at, block in enumerate(self._blocks):
            first = max(since, at * _BLOCK)
            rows = first + np.flatnonzero(fits[first : (at + 1) * _BLOCK])
            if not len(rows):
                continue
            inside = rows - at * _BLOCK
            whole = len(rows) == _BLOCK
            similarity = (block if whole else block[inside]) @ vector
            best = np.argpartition(-similarity, most - 1)[:most] if len(rows) > most else np.arange(len(rows))
            found += zip(similarity[best].tolist(), self._table[rows[best], 0].tolist(), strict=True)
            found = sorted(found, key=_best_first)[:most]
        return [Hit(self.entries[number], min(1.0, similarity)) for similarity, number in found]

    def fits(self, entry: Entry, wanted: Wanted) -> bool:
        """Whether a picture is one of those that a search is about."""
        return (
            wanted.label in (None, entry.label)
            and (wanted.not_group is None or entry.group != wanted.not_group)
            and entry.digest != wanted.not_digest
        )

    def left_out(self, wanted: Wanted) -> int:
        """How many pictures a search is not about."""
        return len(self) - int(self._fitting(wanted).sum())

    def _fitting(self, wanted: Wanted) -> NDArray[np.bool_]:
        """(rows,) which rows a search is about."""
        ids, labels, groups = self._table[: self.num_rows].T
        fits: NDArray[np.bool_] = ids >= 0
        if wanted.label is not None:
            fits &= labels == self._codes.get(wanted.label, -2)
        if wanted.not_group is not None:
            fits &= groups != self._codes.get(wanted.not_group, -2)
        if wanted.not_digest and (same := self._by_digest.get(wanted.not_digest)):
            fits[self._rows[same.id]] = False
        return fits

    def _code(self, name: str | None) -> int:
        return self._codes.setdefault(name, len(self._codes))


def merged(found: list[Hit], others: list[Hit], most: int) -> list[Hit]:
    """The best of two searches."""
    return sorted([*found, *others], key=lambda hit: (-hit.similarity, hit.entry.id))[:most]


def _best_first(one: tuple[float, int]) -> tuple[float, int]:
    return -one[0], one[1]
