"""`name_findings`: names that stand for one thing, as it seems, and are counted as two."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fieldmark.core.wording import counted
from fieldmark.data.auditing.findings import Case, Finding
from fieldmark.data.catalog import Catalog
from fieldmark.data.names import alike

__all__ = ["name_findings"]

_EXAMPLES = 3


def name_findings(catalog: Catalog) -> Iterable[Finding]:
    """The names of classes, of levels above them and of attributes that differ only in capitals, blanks or letter
    forms."""
    cases = [*_classes(catalog), *_levels(catalog), *_attributes(catalog)]
    if cases:
        yield Finding(
            "names-alike",
            "notice",
            f"{counted(len(cases), 'name')} in more than one spelling",
            "Fieldmark treats them as different. If they mean one thing, a right answer may count as a mistake, and "
            "each spelling has fewer images to learn from: use one spelling everywhere.",
            tuple(cases),
        )


def _classes(catalog: Catalog) -> Iterable[Case]:
    counts = np.bincount(catalog.labels, minlength=len(catalog.classes))
    for names in alike(catalog.classes):
        labels = [catalog.classes.index(name) for name in names]
        rows = [row for label in labels for row in np.flatnonzero(catalog.labels == label)[:_EXAMPLES].tolist()]
        told = (f"{catalog.classes[label]!r} ({counted(int(counts[label]), 'image')})" for label in labels)
        yield Case(tuple(rows), f"classes {', '.join(told)}")


def _levels(catalog: Catalog) -> Iterable[Case]:
    for level, of_class in catalog.taxonomy.items():
        yield from (Case((), f"{level} {', '.join(map(repr, names))}") for names in alike(of_class))


def _attributes(catalog: Catalog) -> Iterable[Case]:
    for attribute, values in catalog.attributes.items():
        found = alike(np.unique(values).tolist())
        yield from (Case((), f"values of {attribute}: {', '.join(map(repr, names))}") for names in found)
