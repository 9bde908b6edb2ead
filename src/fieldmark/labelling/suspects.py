"""Doubts in the words of the data: paths and class names in place of rows, with copies that contradict each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.splits import duplicate_conflicts
from fieldmark.labelling.doubts import CANDIDATES, Doubt, Kind

__all__ = ["COLUMNS", "Suspect", "conflicts", "suspects"]

COLUMNS: Final = ("path", "label", "suggested", "why", "score", "probability", "support", "look_alike", "same_class")


@final
@dataclass(frozen=True)
class Suspect:
    """A photograph whose label, or whose place, is worth a look."""

    path: str
    label: str
    split: str
    kind: Kind
    """"label": it looks like another class; "copy": the same picture has another label; "leak": the same picture is in
    another split."""
    score: float
    """The probability that its label is wrong, as model and look-alikes see it; 1 for copies and leaks."""
    candidates: tuple[str, ...]
    """Other classes that it may be, the likeliest first."""
    belief: float | None = None
    """The probability of its label, by a model that has not seen it; None for copies and leaks."""
    support: float | None = None
    """The share of the votes of its look-alikes that its label has."""
    other: str = ""
    """The path of its look-alike among the suggested class, or of its copy; "" if there is none."""
    other_label: str = ""
    other_split: str = ""
    same: str = ""
    """The path of its look-alike among its own class; "" if there is none."""

    @property
    def suggested(self) -> str:
        """The likeliest other class; "" where only its place is in question."""
        return self.candidates[0] if self.candidates and self.kind != "leak" else ""

    @property
    def facts(self) -> tuple[str, ...]:
        """Why it is here, a sentence each."""
        if self.kind == "copy":
            return (f"The same picture is in the data as {self.other_label}: one of the two labels is wrong.",)
        if self.kind == "leak":
            return (
                f"It is in {self.split}, and the same picture is in {self.other_split}, where it will be scored: a "
                "score then counts memory as skill. Drop it here, or accept it.",
            )
        told = [f"A model that has not seen it gives this label {100 * (self.belief or 0):.0f} %."]
        if self.support is not None:
            told.append(f"The photographs that look most like it give it {100 * self.support:.0f} % of their votes.")
        return tuple(told)

    def row(self) -> tuple[object, ...]:
        """A row of doubts.csv, as COLUMNS says."""
        figures = ("" if value is None else f"{value:.4f}" for value in (self.score, self.belief, self.support))
        return (self.path, self.label, self.suggested, self.kind, *figures, self.other, self.same)


def conflicts(catalog: Catalog, copies: NDArray[np.int64]) -> Iterator[Doubt]:
    """Doubts about training and validation images whose copies (N,) have another label, or are in a later split."""
    found = duplicate_conflicts(catalog, copies)
    for rows in found.across_labels:
        for row in rows:
            others = [other for other in rows if catalog.labels[other] != catalog.labels[row]]
            if catalog.splits[row] in SPLITS[:2]:
                names = tuple(dict.fromkeys(int(catalog.labels[other]) for other in others))
                yield Doubt(row, "copy", 1.0, names, 0.0, 0.0, others[0], -1)
    for rows in found.across_splits:
        order = [SPLITS.index(split) if (split := str(catalog.splits[row])) in SPLITS else -1 for row in rows]
        last = rows[int(np.argmax(order))]
        for row, place in zip(rows, order, strict=True):
            if 0 <= place < max(order):
                yield Doubt(row, "leak", 1.0, (), 0.0, 0.0, last, -1)


def suspects(catalog: Catalog, doubts: Iterable[Doubt], passed: Collection[str] = ()) -> tuple[Suspect, ...]:
    """In the order of the doubts, whose rows are the catalogue's; each photograph once, without those that were
    `passed` before."""
    found: dict[str, Suspect] = {}
    for one in doubts:
        suspect = _suspect(catalog, one)
        if (before := found.get(suspect.path)) is not None:
            names = dict.fromkeys((*before.candidates, *suspect.candidates))
            found[suspect.path] = replace(before, candidates=tuple(names)[:CANDIDATES])
        elif suspect.path not in passed:
            found[suspect.path] = suspect
    return tuple(found.values())


def _suspect(catalog: Catalog, one: Doubt) -> Suspect:
    there = one.other >= 0
    judged = one.kind == "label"
    return Suspect(
        catalog.paths[one.row],
        catalog.classes[catalog.labels[one.row]],
        str(catalog.splits[one.row]),
        one.kind,
        one.score,
        tuple(catalog.classes[label] for label in one.candidates),
        one.belief if judged else None,
        one.support if judged else None,
        catalog.paths[one.other] if there else "",
        catalog.classes[catalog.labels[one.other]] if there else "",
        str(catalog.splits[one.other]) if there else "",
        catalog.paths[one.same] if one.same >= 0 else "",
    )
