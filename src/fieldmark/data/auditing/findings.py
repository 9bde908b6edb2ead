"""`Audit`: what is wrong with data, each finding with the images that show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from fieldmark.data.catalog import SPLITS, Catalog

__all__ = ["Audit", "Case", "Finding", "Severity"]

Severity = Literal["spoils", "notice"]
_FORMAT: Final = {"format": "fieldmark audit", "version": 1}
"""The version is raised whenever a key of the JSON changes its meaning or goes."""


@dataclass(frozen=True)
class Case:
    """One instance of a finding: the rows it is about, none where it is about a class."""

    rows: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """One kind of defect and all its cases."""

    kind: str
    """A name for programs, such as "copies-across-parts"."""
    severity: Severity
    """ "spoils": a measurement on this data would be wrong; "notice": something to know."""
    title: str
    """What was found, in a few words."""
    text: str
    """Why it matters and what to do."""
    cases: tuple[Case, ...]

    @property
    def rows(self) -> tuple[int, ...]:
        """All rows concerned, each once."""
        return tuple(sorted({row for case in self.cases for row in case.rows}))


@dataclass(frozen=True, repr=False)
class Audit:
    """What was found in a catalogue, spoilers first."""

    catalog: Catalog
    findings: tuple[Finding, ...] = field(default=())

    def __repr__(self) -> str:
        return (
            f"Audit({self.catalog.name!r}: {', '.join(finding.title for finding in self.findings) or 'nothing found'})"
        )

    @property
    def is_small(self) -> bool:
        """Whether a part has too few images of some class to say much."""
        return any(finding.kind.startswith("few-") for finding in self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def spoils(self) -> bool:
        """Whether a measurement on this data would be wrong."""
        return any(finding.severity == "spoils" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For JSON:

        {"format": "fieldmark audit", "version": 1, "spoils": bool,
         "data": {"name", "root", "images", "classes", "parts": {part: images}},
         "findings": [{"kind", "severity", "title", "text", "images",
                       "cases": [{"note", "images": [{"path", "label", "part"}]}]}]}

        `part` is null where the data does not say.
        """
        catalog = self.catalog
        parts = {part: len(catalog.rows(part)) for part in SPLITS if len(catalog.rows(part))}
        data = {"name": catalog.name, "root": str(catalog.root), "images": len(catalog)}
        return {
            **_FORMAT,
            "spoils": self.spoils,
            "data": {**data, "classes": len(catalog.classes), "parts": parts},
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "title": finding.title,
                    "text": finding.text,
                    "images": len(finding.rows),
                    "cases": [
                        {"note": case.note, "images": [self._image(row) for row in case.rows]} for case in finding.cases
                    ],
                }
                for finding in self.findings
            ],
        }

    def _image(self, row: int) -> dict[str, str | None]:
        catalog = self.catalog
        label, part = catalog.classes[catalog.labels[row]], str(catalog.splits[row]) or None
        return {"path": catalog.paths[row], "label": label, "part": part}
