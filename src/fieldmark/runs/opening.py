"""A run opened for scoring or for looking at: the run at a path, and the rows of its data that are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import DataError, RunError, nearest
from fieldmark.core.listener import Listener
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.decisions import Decisions, decided
from fieldmark.data.joining import joined
from fieldmark.data.readers.columns import Columns
from fieldmark.data.remote import real_place
from fieldmark.data.sets import Tell, find, read
from fieldmark.data.splits import clusters_of, units
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.facts import Facts
from fieldmark.runs.run import Run

__all__ = [
    "EVERYTHING",
    "as_trained",
    "catalog_of",
    "data_of",
    "default_split",
    "is_source",
    "opened_run",
    "rows_of",
    "units_of",
    "with_classes_of",
]

EVERYTHING = "all"


def _silent(text: str) -> None:
    """Training has already said it."""


def opened_run(path: Path) -> Run:
    """The run at a path, also if the path is its bundle: the run knows which images were used in training."""
    parent = Run(path.resolve().parent)
    return Run(path.parent) if parent.exists and path.resolve() == parent.bundle else Run(path)


def data_of(
    known: Facts,
    named: Path | str | None = None,
    *,
    root: Path | str | None = None,
    columns: Columns | None = None,
    tell: Tell = _silent,
) -> Catalog:
    """The data of a run as it lies there now, without decisions and splits: its source, read by `columns` or as in
    training, and what came later behind it. `named` is how the user calls one of them."""
    source = known["source"]
    if named is not None:
        source, columns = (str(named), columns) if _same(named, source) else (source, None)
    catalog = read(source, root, columns=columns or known.get("columns"), tell=tell)
    for later in known.get("further", ()):
        added = read(later["source"], columns=later.get("columns"), fewest=1, tell=tell)
        catalog = joined(catalog, added).catalog
    return catalog


def _same(one: Path | str, other: Path | str) -> bool:
    return real_place(one) == real_place(other)


def is_source(known: Facts, path: Path | str) -> bool:
    """Whether a run's data, or some of it, lies at this path."""
    return bool(known) and any(_same(path, one["source"]) for one in (known, *known.get("further", ())))


def catalog_of(
    run: Run,
    data: Path | str | Catalog | None,
    root: Path | str | None,
    listener: Listener,
    columns: Columns | None = None,
    later: Decisions | None = None,
) -> Catalog:
    """The data to look at: by default the run's own, split as in training, with the decisions that were carried out
    there. Images that were added later belong to no split. A table is read by `columns`, or as in training if it is the
    same.

    Decisions of `later` are carried out, too: a photograph that they add belongs to train.
    """
    known = run.data()
    if data is None:
        if not known:
            raise RunError(
                f"{run.folder} does not say what data it was trained on", "Name the data: evaluate RUN DATA."
            )
        data = known["source"]
    if not isinstance(data, Catalog):
        data = find(data, root, tell=listener.note)
    own = not isinstance(data, Catalog) and is_source(known, data)
    if isinstance(data, Catalog):
        catalog = data
    elif own:
        catalog = data_of(known, data, columns=columns, tell=listener.note)
    else:
        catalog = read(data, columns=columns, tell=listener.note)
    if not known or str(catalog.root) != known["root"]:
        return catalog
    known_splits = run.splits()
    if not own and not all(path in known_splits for path in catalog.paths):
        return catalog
    catalog = as_trained(run, catalog, listener, later)
    if strangers := [path for path, split in zip(catalog.paths, catalog.splits.tolist(), strict=True) if not split]:
        why = "because it is new or" if len(strangers) == 1 else "because they are new or"
        them = f"{counted(len(strangers), 'image')} without a split, {why} could not be read in training"
        listener.warn(f"{them}: {first_few(strangers)}")
    return catalog


def as_trained(run: Run, catalog: Catalog, listener: Listener, later: Decisions | None = None) -> Catalog:
    """The data of a run with its decisions and its splits, and with decisions of `later`. What the run did not have
    keeps the split that it comes with; a photograph that `later` adds belongs to train."""
    # what was added and is gone since is missing, as any picture of a folder would be
    catalog = decided(catalog, run.decisions().present(catalog.root), _silent).catalog
    before = len(catalog)
    if later:
        catalog, *_ = carried_out = decided(catalog, later, listener.warn)
        listener.note(f"Carried out {counted(len(later), 'decision')}: {carried_out}")
        before -= carried_out.dropped
    said = np.where(np.arange(len(catalog)) < before, catalog.splits, "train")
    known = run.splits()
    splits = [known.get(path, split) for path, split in zip(catalog.paths, said.tolist(), strict=True)]
    return replace(catalog, splits=np.array(splits, "<U5"))


def units_of(run: Run, catalog: Catalog) -> NDArray[np.int64]:
    """(N,) images that belong together share a number: those of a group and, in the run's own data, those that training
    found to be near-duplicates. Runs of earlier versions did not keep the latter."""
    own = str(catalog.root) == run.data().get("root")
    copy_of = {row["path"]: row.get("copy_of", "") for row in run.images()} if own else {}
    return units(catalog, clusters_of(catalog.paths, copy_of))


def default_split(catalog: Catalog) -> str:
    """What is scored by default: the test split, or all images if the data is not split."""
    return EVERYTHING if (catalog.splits == "").all() else "test"


def rows_of(catalog: Catalog, split: str) -> NDArray[np.int64]:
    """The rows of a split, or of "all". Raises DataError, which names the splits that exist, if it is empty."""
    rows = np.arange(len(catalog)) if split == EVERYTHING else catalog.rows(split)
    if not len(rows):
        found = [*(name for name in SPLITS if len(catalog.rows(name))), EVERYTHING]
        raise DataError(f"{catalog.name} has no {split} split", f"Choose one with --split: {', '.join(found)}.")
    return rows


def _by_epithet(names: Sequence[str], index: Mapping[str, int]) -> dict[str, int]:
    """The classes that these names mean if either has the genus before the epithet and the other has not; {} unless all
    are found so. Whether folders give "Passerina ciris" or "ciris" depends on which others there are."""
    known = Counter(name.split()[-1] for name in index)
    by_last = {name.split()[-1]: k for name, k in index.items() if known[name.split()[-1]] == 1}
    last = [name.split()[-1] for name in names]
    found = {
        name: by_last[word]
        for name, word in zip(names, last, strict=True)
        if word in by_last and (word == name or word in index)
    }
    return found if len(set(found.values())) == len(names) else {}


def with_classes_of(bundle: Bundle, catalog: Catalog, rows: NDArray[np.int64]) -> Catalog:
    """The catalogue with labels numbered as in the bundle. Raises DataError for classes that it does not know."""
    used = sorted({catalog.classes[label] for label in catalog.labels[rows]})
    index = {name: k for k, name in enumerate(bundle.classes)}
    unknown = [name for name in used if name not in index]
    if unknown and (epithets := _by_epithet(unknown, index)):
        index, unknown = index | epithets, []
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(used)} classes in {catalog.name} are unknown to the model: {first_few(unknown)}",
            nearest(unknown[0], bundle.classes),
        )
    renumbered = np.array([index.get(name, -1) for name in catalog.classes], np.int64)
    return replace(catalog, classes=bundle.classes, labels=renumbered[catalog.labels], taxonomy=bundle.taxonomy)
