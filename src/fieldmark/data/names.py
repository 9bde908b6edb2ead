"""What a name is, wherever one is read or typed: of a class, a level above it, an attribute or its value.

macOS writes é as two characters, a spreadsheet leaves blanks behind, and somebody who types a name does not look at
capitals. So a name that is read becomes `normal`, and one that is typed is looked up (`lookup`). Capitals are kept:
"Robin" and "robin" are two names that an audit reports (`alike`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable

__all__ = ["alike", "lookup", "normal"]


def normal(name: str) -> str:
    """The name in Unicode's composed form (NFC), without outer white space and with single blanks inside."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def lookup(names: Iterable[str]) -> Callable[[str], str | None]:
    """A function from what somebody typed to the one of these names that is meant, or None if there is none.

    A name that differs only in capitals is meant if no other one does.
    """
    listed = list(names)
    exact = {normal(name): name for name in listed} | {name: name for name in listed}
    folded: dict[str, set[str]] = {}
    for name in listed:
        folded.setdefault(normal(name).casefold(), set()).add(name)

    def find(typed: str) -> str | None:
        if (name := exact.get(typed, exact.get(normal(typed)))) is not None:
            return name
        meant = folded.get(normal(typed).casefold(), set())
        return next(iter(meant)) if len(meant) == 1 else None

    return find


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Those of the names that differ only in capitals, blanks or the form of their letters, such as full-width ones."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        bare = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups.setdefault(bare, []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]
