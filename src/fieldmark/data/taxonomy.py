"""`Taxonomy`: the classes and the levels above them.

Shapes: N images, K classes, G names of a level, L levels from the class upwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.data.names import lookup, normal

__all__ = ["Level", "Taxonomy"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@final
@dataclass(frozen=True, eq=False)
class Level:
    """One level of a taxonomy."""

    name: str
    """"species", "genus", …"""
    names: tuple[str, ...]
    """(G) the different names of the level, in the order of their first classes."""
    parent: Ints
    """(K,) for each class an index into `names`."""

    def sums(self, probabilities: Floats) -> Floats:
        """(N, G) the probability of each name, the sum over its classes, from those of the classes (N, K)."""
        if len(self.names) == len(self.parent):  # each class has a name of its own, so there is nothing to add
            return probabilities
        order = np.argsort(self.parent, kind="stable")
        starts = np.searchsorted(self.parent[order], np.arange(len(self.names)))
        summed: Floats = np.add.reduceat(probabilities[:, order], starts, axis=1)
        return summed

    @property
    def divides(self) -> bool:
        """Whether it groups some classes but not all. A level that does not is no step in the tree."""
        return 1 < len(self.names) < len(self.parent)


@final
@dataclass(frozen=True, eq=False)
class Taxonomy(Mapping[str, tuple[str, ...]]):
    """The classes and, level by level, the names above them: `taxonomy["genus"]` names the genus of each class (K).

    Levels go from the finest to the coarsest. A taxonomy with no level above the classes is empty and false.
    """

    classes: tuple[str, ...]
    """(K)."""
    above: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Level → the name of each class at that level (K), the finest level first."""

    def __post_init__(self) -> None:
        assert all(len(names) == len(self.classes) for names in self.above.values())

    @classmethod
    def of(cls, classes: Sequence[str], above: Mapping[str, Sequence[str]] | None = None) -> Taxonomy:
        """Build a taxonomy from any sequences of names, which become `normal`."""
        levels = {level: tuple(map(normal, names)) for level, names in (above or {}).items()}
        return cls(tuple(map(normal, classes)), levels)

    def __getitem__(self, level: str) -> tuple[str, ...]:
        return self.above[level]

    def __iter__(self) -> Iterator[str]:
        return iter(self.above)

    def __len__(self) -> int:
        return len(self.above)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Taxonomy) and other.classes != self.classes:
            return False
        return isinstance(other, Mapping) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]  # equal to any mapping of the same names, so it has no hash

    def as_dict(self) -> dict[str, list[str]]:
        """The levels above the classes, for JSON."""
        return {level: list(names) for level, names in self.above.items()}

    # ---- the tree

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """(L) the levels, the class itself first; it is called "species" if there is a genus above it."""
        own = Level("species" if "genus" in self.above else "class", self.classes, np.arange(len(self.classes)))
        return own, *(_level(name, names) for name, names in self.above.items())

    @cached_property
    def steps(self) -> tuple[Level, ...]:
        """The levels above the class that group some classes but not all."""
        return tuple(level for level in self.levels[1:] if level.divides)

    def parent(self, name: str, level: str) -> str:
        """The name above a class at a level. Raises KeyError for an unknown level, ValueError for an unknown class."""
        return self.above[level][self._row(name)]

    def lineage(self, level: str, name: str) -> dict[str, str]:
        """A name of a level and the names above it, by level; {} for a level that there is not.

        Raises ValueError for an unknown name.
        """
        order = [one.name for one in self.levels]
        if level not in order:
            return {}
        upwards = self.levels[order.index(level) :]
        row = int((upwards[0].parent == upwards[0].names.index(name)).argmax())
        return {one.name: one.names[one.parent[row]] for one in upwards}

    def common_ancestor(self, first: str, second: str) -> tuple[str, str] | None:
        """(level, name) of the lowest ancestor of two classes, the class itself if they are one; None for the root.

        Raises ValueError for an unknown class.
        """
        a, b = self._row(first), self._row(second)
        for level in self.levels:
            if level.parent[a] == level.parent[b]:
                return level.name, level.names[level.parent[a]]
        return None

    def distances(self, first: NDArray[np.integer[Any]], second: NDArray[np.integer[Any]]) -> Ints:
        """(N,) steps from a class up to the lowest common ancestor, for classes (N,) by index.

        0 for the same class, 1 within the first level that divides, and so on; `furthest` for classes that share none.
        """
        steps = (first != second).astype(np.int64)
        for level in self.steps:
            steps += level.parent[first] != level.parent[second]
        return steps

    @property
    def furthest(self) -> int:
        """The largest distance: the root is one step above the last level that divides."""
        return 1 + len(self.steps)

    # ---- answers by level

    def best(self, probabilities: Floats) -> tuple[Ints, Floats]:
        """The likeliest name of each level and its probability, (N, L) each, for probabilities (N, K)."""
        rows, answers, shares = np.arange(len(probabilities)), list[Ints](), list[Floats]()
        for summed in self._summed(probabilities):
            answers.append(summed.argmax(axis=1))
            shares.append(summed[rows, answers[-1]])
        return np.stack(answers, axis=1), np.stack(shares, axis=1).clip(0, 1)

    def shares(self, probabilities: Floats, answers: Ints) -> Floats:
        """(N, L) the probability of these names (N, L), for probabilities (N, K)."""
        rows = np.arange(len(answers))
        of_levels = zip(self._summed(probabilities), answers.T, strict=True)
        return np.stack([summed[rows, names] for summed, names in of_levels], axis=1).clip(0, 1)

    def right(self, answers: Ints, labels: Ints) -> NDArray[np.bool_]:
        """(N, L) whether the answer of each level is true, for classes (N,)."""
        return answers == np.stack([level.parent[labels] for level in self.levels], axis=1)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.classes)}

    @cached_property
    def _find(self) -> Callable[[str], str | None]:
        return lookup(self.classes)

    def _row(self, name: str) -> int:
        if (found := self._find(name)) is None:
            raise ValueError(f"there is no class {name!r}")
        return self._row_of[found]

    def _summed(self, probabilities: Floats) -> Iterator[Floats]:
        """(N, G) of each level."""
        for level in self.levels:
            yield level.sums(probabilities)


def _level(name: str, of_class: Sequence[str]) -> Level:
    found = tuple(dict.fromkeys(of_class))
    index = {one: i for i, one in enumerate(found)}
    return Level(name, found, np.array([index[one] for one in of_class]))
