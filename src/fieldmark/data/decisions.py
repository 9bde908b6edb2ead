"""Decisions: what a person has said about photographs, as a table, and a catalogue in which it is done.

| path | decision | label |
|---|---|---|
| robin/017.jpg | accept | robin |
| robin/031.jpg | relabel | dunnock |
| robin/044.jpg | drop | |
| /photographs/2026/0412.jpg | label | wren |

A path is that of the data, or absolute. `relabel` and `label` both give a label, to a photograph of the data or to a
new one; where there is no column `decision`, each row with a label does. Files are never touched: decisions change a
catalogue in memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self, final

import numpy as np

from fieldmark.core.errors import DataError, nearest
from fieldmark.core.storage import write_rows
from fieldmark.core.wording import brief, counted, first_few
from fieldmark.data.catalog import Catalog, called_in
from fieldmark.data.names import lookup, normal
from fieldmark.data.readers.sheet import read_sheet
from fieldmark.data.shards import is_there
from fieldmark.data.taxonomy import Taxonomy

__all__ = [
    "COLUMNS",
    "Decided",
    "Decision",
    "Decisions",
    "decided",
    "read_decisions",
    "undecided",
    "with_samples",
    "write_decisions",
]

COLUMNS = ("path", "decision", "label")
_LABELLED = ("relabel", "label")
_KNOWN = ("accept", "drop", *_LABELLED)

Tell = Callable[[str], None]


class Decision(NamedTuple):
    """What was decided about one photograph."""

    path: str
    """As the data calls it, or absolute; with forward slashes."""
    decision: str
    """accept, relabel, label or drop."""
    label: str = ""
    """A `normal` name; "" where nothing is labelled."""

    @property
    def gives(self) -> str:
        """The label that it gives; "" if it gives none."""
        return self.label if self.decision in _LABELLED else ""


@final
@dataclass(frozen=True)
class Decisions:
    """Decisions, one for each photograph."""

    rows: tuple[Decision, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Decision]:
        return iter(self.rows)

    @property
    def digest(self) -> str:
        """A hash of them all, in any order."""
        lines = sorted("\t".join(row) for row in self.rows)
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def present(self, root: Path) -> Decisions:
        """Those about files that are still there, below `root` or where an absolute path says."""
        return Decisions(tuple(row for row in self.rows if is_there(root / row.path)))

    def then(self, later: Self) -> Decisions:
        """These, and those that were made later, which count where both are about the same photograph."""
        return Decisions(tuple(({row.path: row for row in self} | {row.path: row for row in later}).values()))


def read_decisions(files: Iterable[Path | str]) -> Decisions:
    """Read tables of decisions. Raises DataError, with the place, for a row that makes no sense and for two that
    contradict each other."""
    found: dict[str, tuple[Decision, str]] = {}
    for file in map(Path, files):
        for row, place in _rows(file):
            before, where = found.setdefault(row.path, (row, place))
            if (before.decision, before.gives) != (row.decision, row.gives):
                raise DataError(
                    f"Two decisions about {row.path} contradict each other: {_said(before)} ({where}) and "
                    f"{_said(row)} ({place})",
                    "Delete the wrong row.",
                )
    return Decisions(tuple(row for row, _ in found.values()))


def write_decisions(file: Path, decisions: Decisions) -> None:
    """Write them as a table that `read_decisions` reads."""
    write_rows(file, COLUMNS, decisions)


class Decided(NamedTuple):
    """A catalogue in which decisions are carried out, and what they did."""

    catalog: Catalog
    relabelled: int
    dropped: int
    added: int

    def __str__(self) -> str:
        parts = ((self.relabelled, "relabelled"), (self.dropped, "dropped"), (self.added, "added"))
        told = [f"{number:,} {what}" for number, what in parts if number]
        return ", ".join(told) or "no label changed"


def decided(catalog: Catalog, decisions: Decisions, tell: Tell) -> Decided:
    """Relabel, drop and add samples. What is added is of train if the data is split, and of no split otherwise.

    `tell` hears of classes that begin here, and of decisions about files that are gone where that changes nothing.
    Raises DataError where a label is given to a file that is gone.
    """
    row_of = {path: row for row, path in enumerate(catalog.paths)}
    placed = [(row_of.get(called_in(catalog.root, one.path)), one) for one in decisions]
    _check_there(catalog, [one for row, one in placed if row is None], tell)
    classes, meant = _classes(catalog, [one.gives for one in decisions if one.gives], tell)
    labels, keep = catalog.labels.copy(), np.ones(len(catalog), np.bool_)
    for row, one in placed:
        if row is not None and one.decision == "drop":
            keep[row] = False
        elif row is not None and one.gives:
            labels[row] = meant[one.gives]
    relabelled = int((labels != catalog.labels).sum())
    changed = replace(catalog, labels=labels, classes=classes, taxonomy=_taxonomy(catalog.taxonomy, classes))
    new = {called_in(catalog.root, one.path): meant[one.gives] for row, one in placed if row is None and one.gives}
    whole = with_samples(changed.select(np.flatnonzero(keep)), list(new), list(new.values()))
    return Decided(whole, relabelled, int((~keep).sum()), len(new))


def undecided(files: Iterable[Path], root: Path, decisions: Iterable[Decision]) -> list[Path]:
    """The files that nobody has decided about; `root` is that of the data."""
    known = {os.path.abspath(root / one.path) for one in decisions}
    return [file for file in files if os.path.abspath(file) not in known]


# ---- tables


def _rows(file: Path) -> Iterator[tuple[Decision, str]]:
    """The decisions of a table, each with its place."""
    if not os.path.exists(file):
        raise DataError(f"There is no file {file}", "Give the table that was saved from the page.")
    sheet = read_sheet(file)
    places = {name: at for at, name in enumerate(sheet.header) if name in COLUMNS}
    if lacking := [name for name in ("path", "label") if name not in places]:
        raise DataError(
            f"{file} has no column {lacking[0]!r}; its columns are: {', '.join(sheet.header) or 'none'}",
            f"Expected a table of decisions: {', '.join(COLUMNS)}.",
        )
    columns = {name: sheet.column(at) for name, at in places.items()}
    said = columns.get("decision", ["label" if label else "" for label in columns["label"]])
    for path, decision, label, line in zip(columns["path"], said, columns["label"], sheet.lines, strict=True):
        if decision:
            yield _checked(path, decision.lower(), normal(label), place := f"{file}, {sheet.unit} {line}"), place


def _checked(path: str, decision: str, label: str, place: str) -> Decision:
    if not path:
        raise DataError(f"{place}: the path is empty", "Give each decision the path of its photograph.")
    if decision not in _KNOWN:
        raise DataError(f"{place}: {brief(decision)} is no decision", f"Expected one of {', '.join(_KNOWN)}.")
    if decision in _LABELLED and not label:
        raise DataError(f"{place}: {decision} gives no label to {path}", "Fill the column label, or delete the row.")
    return Decision(os.path.normpath(path).replace(os.sep, "/"), decision, label)


def _said(row: Decision) -> str:
    return f"{row.decision} {row.gives!r}" if row.gives else row.decision


# ---- the catalogue


def _check_there(catalog: Catalog, strangers: Sequence[Decision], tell: Tell) -> None:
    """Of decisions about what is not in the catalogue, those that give a label need the file."""
    gone = [one for one in strangers if not is_there(catalog.file_at(one.path))]
    if lost := [one.path for one in gone if one.gives]:
        raise DataError(
            f"{counted(len(lost), 'decision')} of {len(strangers):,} about photographs outside the data "
            f"{'names a file that is' if len(lost) == 1 else 'name files that are'} gone: {first_few(lost)}",
            f"Fieldmark looked in {catalog.root}. Put the files back, or delete these rows from the table.",
        )
    if gone:
        tell(
            f"{counted(len(gone), 'decision')} about files that are gone, which changes nothing: "
            f"{first_few(one.path for one in gone)}"
        )


def _classes(catalog: Catalog, given: Iterable[str], tell: Tell) -> tuple[tuple[str, ...], dict[str, int]]:
    """The classes with those that begin here, and the class of each label that is given."""
    find, classes, meant = lookup(catalog.classes), list(catalog.classes), dict[str, int]()
    for name in dict.fromkeys(given):
        known = find(name)
        if known is None:
            classes.append(name)
            find = lookup(classes)
        meant[name] = classes.index(known or name)
    new = classes[len(catalog.classes) :]
    if len(new) == 1:
        close = nearest(new[0], catalog.classes)
        tell(f"A new class begins with these decisions: {new[0]}{f'. {close}' if close.startswith('Did') else ''}")
    elif new:
        tell(f"{len(new):,} new classes begin with these decisions: {first_few(new)}")
    return tuple(classes), meant


def _taxonomy(taxonomy: Taxonomy, classes: tuple[str, ...]) -> Taxonomy:
    """A class that begins here stands alone: it has its own name at every level."""
    new = classes[len(taxonomy.classes) :]
    return Taxonomy(classes, {level: (*names, *new) for level, names in taxonomy.items()})


def with_samples(catalog: Catalog, paths: Sequence[str], labels: Sequence[int]) -> Catalog:
    """The catalogue, and behind its own further samples of which nothing but the label is known. They are of train if
    the data is split, and of no split otherwise."""
    num = len(paths)
    if not num:
        return catalog
    nothing, split = np.full(num, ""), "train" if catalog.is_split and len(catalog) else ""
    unseen = np.zeros((num, len(catalog.keypoint_names), 3), np.float32)
    unseen[..., :2] = np.nan
    return replace(
        catalog,
        paths=(*catalog.paths, *paths),
        labels=np.concatenate([catalog.labels, np.array(labels, np.int64)]),
        splits=np.concatenate([catalog.splits, np.full(num, split)]),
        groups=np.concatenate([catalog.groups, nothing]),
        boxes=None if catalog.boxes is None else np.concatenate([catalog.boxes, np.full((num, 4), np.nan, np.float32)]),
        masks=(*catalog.masks, *[""] * num) if catalog.masks else (),
        keypoints=None if catalog.keypoints is None else np.concatenate([catalog.keypoints, unseen]),
        attributes={name: np.concatenate([values, nothing]) for name, values in catalog.attributes.items()},
    )
