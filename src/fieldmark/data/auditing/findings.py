"""`Audit`: what is wrong with data. Each finding names the images that show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from fieldmark.data.catalog import SPLITS, Catalog

__all__ = ["Audit", "Case", "Finding", "Severity"]

Severity = Literal["spoils", "notice"]
_FORMAT: Final = {"format": "fieldmark audit", "version": 2}
"""The version is raised whenever a key of the JSON is removed or changes its meaning."""


@dataclass(frozen=True)
class Case:
    """One instance of a finding: the rows that it is about, or none if it is about a class."""

    rows: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """One kind of defect and all its cases."""

    kind: str
    """A name for programs, such as "copies-across-splits"."""
    severity: Severity
    """ "spoils": a measurement on this data would be wrong; "notice": something worth knowing."""
    title: str
    """What was found, in a few words."""
    text: str
    """Why it matters and what to do."""
    cases: tuple[Case, ...]

    @property
    def rows(self) -> tuple[int, ...]:
        """All rows that the finding is about, each once."""
        return tuple(sorted({row for case in self.cases for row in case.rows}))


@dataclass(frozen=True, repr=False)
class Audit:
    """What was found in a catalogue; findings that spoil a measurement come first."""

    catalog: Catalog
    findings: tuple[Finding, ...] = field(default=())

    def __repr__(self) -> str:
        return (
            f"Audit({self.catalog.name!r}: {', '.join(finding.title for finding in self.findings) or 'nothing found'})"
        )

    @property
    def is_small(self) -> bool:
        """Whether a split has too few images of some class to say much."""
        return any(finding.kind.startswith("few-") for finding in self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def spoils(self) -> bool:
        """Whether a measurement on this data would be wrong."""
        return any(finding.severity == "spoils" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The audit as JSON::

            {"format": "fieldmark audit", "version": 2, "spoils": bool,
             "data": {"name", "root", "images", "classes", "splits": {split: images}},
             "findings": [{"kind", "severity", "title", "text", "images",
                           "cases": [{"note", "images": [{"path", "label", "split"}]}]}]}

        `split` is null if the data does not say.
        """
        catalog = self.catalog
        splits = {split: len(catalog.rows(split)) for split in SPLITS if len(catalog.rows(split))}
        data = {"name": catalog.name, "root": str(catalog.root), "images": len(catalog)}
        return {
            **_FORMAT,
            "spoils": self.spoils,
            "data": {**data, "classes": len(catalog.classes), "splits": splits},
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
        label, split = catalog.classes[catalog.labels[row]], str(catalog.splits[row]) or None
        return {"path": catalog.paths[row], "label": label, "split": split}
