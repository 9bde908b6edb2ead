"""What a gallery consists of, and what every store of one can do.

Shapes: N pictures, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, NotRequired, Protocol

import numpy as np
from annotated_types import Interval, Len
from numpy.typing import NDArray
from typing_extensions import TypedDict

from fieldmark.core.errors import RunError

__all__ = [
    "FORMAT",
    "Absent",
    "Added",
    "Description",
    "Entry",
    "Hit",
    "Maker",
    "Store",
    "Vectors",
    "Wanted",
    "sorted_out",
]

FORMAT = 1


class Absent(RunError):
    """There is no gallery of this name."""


Vectors = NDArray[np.float32]
_Hash = Annotated[str, Len(64, 64)]


class Maker(TypedDict):
    """What makes embeddings. Head, calibration and classes are no part of it: a gallery outlives new classes."""

    network: str
    """In words: "transfer on tf_efficientnet_lite0, 224 px"."""
    architecture: _Hash
    weights: _Hash
    view: _Hash
    """Of how a picture becomes what the network sees."""
    part: NotRequired[str]
    """The part whose vectors these are; absent for those of whole pictures."""


class Description(TypedDict):
    """What a gallery says about itself."""

    format: int
    id: str
    """Random: two galleries are never taken for each other."""
    dimension: Annotated[int, Interval(ge=1, le=65_536)]
    dtype: Literal["float16", "float32"]
    maker: Maker


class Entry(NamedTuple):
    """A picture in a gallery."""

    path: str
    """Absolute."""
    digest: str
    """The SHA-256 of its file."""
    label: str | None = None
    group: str | None = None
    """What it belongs together with: a burst, a camera, an individual."""
    id: int = -1
    """Given by the store, and never again to another picture; -1 before."""


class Hit(NamedTuple):
    """A picture that was found."""

    entry: Entry
    similarity: float
    """The cosine between the embeddings, at most 1."""


@dataclass(frozen=True)
class Wanted:
    """Which pictures of a gallery a search is about."""

    label: str | None = None
    """Only those with this label."""
    not_group: str | None = None
    """None of this group."""
    not_digest: str | None = None
    """Not the file with this SHA-256."""

    @property
    def all(self) -> bool:
        return self == Wanted()


@dataclass(frozen=True)
class Added:
    """What became of pictures that were to be added."""

    added: int = 0
    replaced: int = 0
    """At the same path there was another file, or the same with another label or group."""
    known: int = 0
    """The same file was there already."""

    def __add__(self, other: Added) -> Added:
        return Added(self.added + other.added, self.replaced + other.replaced, self.known + other.known)


class Store(Protocol):
    """Where the pictures of a gallery are kept. Whatever `add` and `remove` have returned from survives a crash."""

    @property
    def description(self) -> Description: ...

    @property
    def place(self) -> str:
        """The name of the place for messages; without passwords."""
        ...

    def __len__(self) -> int: ...

    def entries(self) -> Iterator[Entry]:
        """All pictures, in the order in which they were added."""
        ...

    def contents(self) -> Iterator[tuple[Entry, Vectors]]:
        """The same, each with its embedding (D,)."""
        ...

    def known(self, digests: Iterable[str], paths: Iterable[str]) -> list[Entry]:
        """The pictures with one of these digests or at one of these paths."""
        ...

    def add(self, entries: Sequence[Entry], vectors: Vectors) -> Added:
        """Add pictures with their embeddings (N, D) of unit length. `sorted_out` decides what becomes of each."""
        ...

    def remove(self, ids: Iterable[int]) -> int:
        """Remove pictures, and return how many of these were there."""
        ...

    def search(self, vector: Vectors, most: int, wanted: Wanted) -> list[Hit]:
        """The most similar pictures to an embedding (D,) of unit length, the most similar first."""
        ...

    def tidy(self) -> None:
        """Do what makes later searches faster, once there is nothing more to add."""
        ...

    def close(self) -> None: ...


@dataclass
class Sorted:
    """What has to be done to add some pictures."""

    rows: list[int] = field(default_factory=list)
    """Of the pictures to add."""
    stale: set[int] = field(default_factory=set)
    """The ids of those that they replace."""
    counts: Added = field(default_factory=Added)


def sorted_out(entries: Sequence[Entry], known: Iterable[Entry]) -> Sorted:
    """Decide which pictures are new, given those that are there with one of their digests or paths.

    The same file is there once, whatever its name. A path has one file: another one replaces it, and so does the same
    one with another label or group. What is not known about a picture does not replace what was known.
    """
    found = Sorted()
    by_digest = {one.digest: one for one in known}
    by_path = {one.path: one for one in by_digest.values()}
    for row, entry in enumerate(entries):
        same, before = by_digest.get(entry.digest), by_path.get(entry.path)
        if before and before is same and not _says_more(entry, same):
            found.counts += Added(known=1)
            continue
        if before:
            _drop(before, found, entries)
            del by_digest[before.digest], by_path[before.path]
        if same and same is not before:
            found.counts += Added(known=1)
            continue
        found.counts += Added(replaced=1) if before else Added(added=1)
        found.rows.append(row)
        by_digest[entry.digest] = by_path[entry.path] = entry
    return found


def _drop(before: Entry, found: Sorted, entries: Sequence[Entry]) -> None:
    """Give up a picture that is there, or that was to be added a moment ago."""
    if before.id >= 0:
        found.stale.add(before.id)
    else:
        found.rows.remove(next(row for row in found.rows if entries[row] is before))


def _says_more(entry: Entry, same: Entry) -> bool:
    """Whether the label or the group is another one than before."""
    return entry.label not in (None, same.label) or entry.group not in (None, same.group)
