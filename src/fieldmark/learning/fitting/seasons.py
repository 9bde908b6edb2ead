"""The data of a finished run and new photographs, as the data of a run that goes on from it.

A photograph of before is known by its path or, where it was moved or its folder renamed, by its contents; it stays in
its split. What it shows is what its place says now, or what a decision says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fieldmark.core.errors import DataError, ImageError
from fieldmark.core.listener import Listener
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import Catalog
from fieldmark.data.decisions import Decisions
from fieldmark.data.decode import read_bytes
from fieldmark.data.duplicates import digest
from fieldmark.data.joining import begun_with, joined
from fieldmark.data.names import alike
from fieldmark.data.readers.columns import Columns
from fieldmark.data.remote import place_of
from fieldmark.data.sets import find, read
from fieldmark.data.shards import is_there
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.runs.facts import Facts, Source
from fieldmark.runs.opening import as_trained, data_of, is_source, opened_run
from fieldmark.runs.run import Run, picture_name

__all__ = ["Grown", "grown"]


class Grown(NamedTuple):
    """Old and new data together."""

    catalog: Catalog
    """With the old classes first; what has no split yet is new."""
    source: str
    columns: Columns
    further: list[Source]
    """Where it lies, as a run keeps it."""
    splits: Mapping[str, str]
    """Of each old photograph, by the path that it has now."""


def grown(
    run: Run,
    data: Path | str | Catalog,
    root: Path | str | None,
    columns: Columns | None,
    decisions: Decisions,
    listener: Listener,
) -> Grown:
    """The data of a finished run with `data` behind it, in which all `decisions` are carried out, those of the run too.

    `data` may be the run itself, or where its data lies. Raises DataError if the old data is gone, or if nothing is
    new.
    """
    known, name = run.data(), str(run.folder)
    here = None if isinstance(data, Catalog) else find(data, root, tell=listener.note)
    catalog, further = _old(run, known, listener), [*known.get("further", ())]
    if here is None or not (_is_run(here, run) or is_source(known, here)):
        later = data if isinstance(data, Catalog) else read(here or data, columns=columns, fewest=1, tell=listener.note)
        _check_names(known["classes"], later, name, listener)
        catalog = _joined(catalog, later, name, listener)
        source: Source = {"source": place_of(here or later.root)}
        further.append(source | {"columns": dict(columns)} if columns else source)
    made = decisions if decisions.digest != run.decisions().digest else None
    catalog = as_trained(run, catalog, listener, made)
    splits, moved = run.splits(), _moved(run, catalog)
    _tell_of_gone(run, catalog, splits, moved, listener)
    splits |= {path: splits[old] for path, old in moved.items()}
    if not made and not moved and all(path in splits for path in catalog.paths):
        raise DataError(
            f"Nothing is new in {data.name if isinstance(data, Catalog) else data}: {name} has all of its photographs",
            f"Name new photographs; or train again on the same: fieldmark train {name}.",
        )
    settled = [splits.get(path, split) for path, split in zip(catalog.paths, catalog.splits.tolist(), strict=True)]
    catalog = replace(catalog, splits=np.array(settled, "<U5"))
    catalog = begun_with(catalog, Taxonomy.of(known["classes"], known["taxonomy"]))
    return Grown(catalog, known["source"], known.get("columns") or {}, further, splits)


def _is_run(path: Path, run: Run) -> bool:
    """Whether `run` is at a path. Raises DataError if another run is."""
    there = opened_run(path)
    if there.exists and os.path.realpath(there.folder) != os.path.realpath(run.folder):
        raise DataError(
            f"{path} is another run than the one to go on from, {run.folder}",
            "Name new photographs: a folder or a table.",
        )
    return there.exists


def _old(run: Run, known: Facts, listener: Listener) -> Catalog:
    """The data of a run as it lies there now. Raises DataError if it is gone."""
    try:
        return data_of(known, tell=listener.note)
    except DataError as error:
        raise DataError(f"The data that {run.folder} learnt from cannot be read: {error.problem}", _BACK) from None


_BACK = "Put it back where it was, or train on what you have without --from."


def _joined(catalog: Catalog, later: Catalog, name: str, listener: Listener) -> Catalog:
    both, copies, relabelled = joined(catalog, later)
    if copies:
        listener.note(f"{counted(copies, 'photograph')} of {later.name} left out, since {name} has them")
    if relabelled:
        listener.warn(
            f"{counted(len(relabelled), 'photograph')} with another label than in the data of {name}, which counts: "
            f"{first_few(relabelled)}. To change labels, use --decisions"
        )
    return both


def _moved(run: Run, catalog: Catalog) -> dict[str, str]:
    """The paths of old photographs that are at another place now, each with the one that the run knows."""
    there = set(catalog.paths)
    rows = run.images()
    known = {row["path"] for row in rows}
    gone = {row["picture"]: row["path"] for row in rows if row["path"] not in there and row.get("picture")}
    new = [path for path in catalog.paths if path not in known] if gone else []
    found = {path: gone.get(_picture(catalog.file_at(path)), "") for path in new}
    return {path: old for path, old in found.items() if old}


def _picture(file: Path) -> str:
    try:
        return picture_name(digest(read_bytes(file)))
    except ImageError:
        return ""


def _tell_of_gone(
    run: Run, catalog: Catalog, splits: Mapping[str, str], moved: Mapping[str, str], listener: Listener
) -> None:
    """Say which old photographs are gone or elsewhere. Raises DataError if all are gone."""
    there = {*catalog.paths, *moved.values()}
    gone = [path for path in splits if path not in there and not is_there(catalog.file_at(path))]
    if len(gone) == len(splits):
        raise DataError(f"The photographs that {run.folder} learnt from are gone from {run.data()['source']}", _BACK)
    if moved:
        listener.note(f"{counted(len(moved), 'photograph')} of {run.folder} found at another place")
    if gone:
        held = sum(splits[path] == "val" for path in gone)
        listener.warn(
            f"{counted(len(gone), 'photograph')} of {run.folder} {'is' if len(gone) == 1 else 'are'} gone, {held:,} of "
            f"them for validation: {first_few(gone)}"
        )


def _check_names(known: Sequence[str], later: Catalog, run: str, listener: Listener) -> None:
    """Warn where the classes of later data look like those of another task, or like known ones under another name."""
    names = {later.classes[label] for label in np.unique(later.labels)}
    if not names & set(known):
        its = f"all {len(names):,} of its classes are" if len(names) > 1 else "its only class is"
        listener.warn(f"{later.name} has none of the classes of {run}: {its} new")
    new = sorted(names - set(known))
    # folders of genus and species give both words or one, depending on which others there are
    epithets = {name.split()[-1]: name for name in known if " " in name}
    pairs = [(epithets[name], name) for name in new if name in epithets]
    pairs += [(name.split()[-1], name) for name in new if " " in name and name.split()[-1] in set(known)]
    for group in (*alike((*known, *new)), *pairs):
        listener.warn(f"Two classes with almost one name: {' and '.join(map(repr, group))}. If they are one, rename it")
