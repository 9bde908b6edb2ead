"""Graded classes: the order that labels have where they are stages, severities or sizes.

Shapes: K classes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from fieldmark.core.errors import RecipeError, nearest
from fieldmark.core.wording import first_few
from fieldmark.data.names import lookup

__all__ = ["grades_of", "in_order", "numbered"]

LONGEST_SCALE = 11
"""Of grades that are taken for such unasked: 0 to 10. More numbered classes are rather serial numbers."""

_SCALE = re.compile(
    "(age|damage|day|degree|grade|instar|level|month|phase|quality|rank|rating|score|severity|size|stage|star|step|tier"
    "|week|year|stade|niveau|degré|estadio|etapa|fase|grado|nivel|livello|stadio|estágio|grau|nível"
    "|bristol|fitzpatrick|tanner)s?"
    r"|\w*(grad|stadium|stadien|stufen?)|\w+klasse",  # as in "Schweregrad"
    re.IGNORECASE,
)
"""A word for what has grades, in some languages."""


def numbered(classes: Sequence[str]) -> tuple[str, ...]:
    """The classes in the order of the one number that their names differ in; () where they differ otherwise."""
    return tuple(name for _, name in _by_number(classes))


def _by_number(classes: Sequence[str]) -> list[tuple[int, str]]:
    """The same with their numbers."""
    pieces = [re.split(r"(\d+)", name) for name in classes]  # text, number, text, …
    if len({len(found) for found in pieces}) != 1:
        return []
    differing = [place for place, found in enumerate(zip(*pieces, strict=True)) if len(set(found)) > 1]
    if len(differing) != 1 or differing[0] % 2 == 0:
        return []
    numbers = [int(found[differing[0]]) for found in pieces]
    if len(set(numbers)) < len(classes):  # "1" and "01"
        return []
    return sorted(zip(numbers, classes, strict=True))


def _counts_things(pairs: Sequence[tuple[int, str]]) -> bool:
    """Whether names say "the first flower" rather than a grade: a word that is none of a scale, counted from 1. Scales
    may be in capitals: CIN1, KL-2."""
    if [number for number, _ in pairs] != list(range(1, len(pairs) + 1)):
        return False
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", pairs[0][1]))  # TumourStage1, too
    return bool(words) and not any(word.isupper() or _SCALE.fullmatch(word) for word in words)


def in_order(classes: Sequence[str], order: str | Sequence[str]) -> tuple[str, ...]:
    """The classes from the lowest grade to the highest, by `labels.order` of a recipe; () where they are no grades.

    Raises RecipeError where the order is not one of these classes.
    """
    if order == "none":
        return ()
    if order == "auto":
        pairs = _by_number(classes) if 3 <= len(classes) <= LONGEST_SCALE else []
        steps = {after - before for (before, _), (after, _) in itertools.pairwise(pairs)}
        if len(steps) != 1 or _counts_things(pairs):  # uneven numbers are rather those of a list
            return ()
        return tuple(name for _, name in pairs)
    if order == "numbers":
        if not (found := numbered(classes)):
            raise RecipeError(
                "labels.order = 'numbers', but the class names do not differ only in one number: " + first_few(classes),
                f"List the classes from the lowest to the highest: labels.order = {_example(classes)}.",
            )
        return found
    assert not isinstance(order, str)
    find = lookup(classes)
    if unknown := [name for name in order if find(name) is None]:
        raise RecipeError(f"labels.order names {unknown[0]!r}, which is not a class", nearest(unknown[0], classes))
    meant = tuple(str(find(name)) for name in order)
    if left := [name for name in classes if name not in meant]:
        raise RecipeError(f"labels.order leaves out {first_few(left)}", "List every class, from the lowest grade up.")
    if twice := [name for name in meant if meant.count(name) > 1]:
        raise RecipeError(f"labels.order names {twice[0]!r} twice", "List each class once.")
    return meant


def grades_of(classes: Sequence[str], order: str | Sequence[str]) -> tuple[int, ...]:
    """(K) the place of each class in the order, from 0; () where they are no grades. See `in_order`."""
    place = {name: grade for grade, name in enumerate(in_order(classes, order))}
    return tuple(place[name] for name in classes) if place else ()


def _example(classes: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in classes[:2]) + ", …]"
