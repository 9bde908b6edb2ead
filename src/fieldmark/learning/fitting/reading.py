"""The data of a run, read for its training and remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fieldmark.core.errors import RunError
from fieldmark.core.listener import Listener, relayed_warnings
from fieldmark.core.recipe import Recipe
from fieldmark.data.catalog import Catalog
from fieldmark.data.decisions import undecided
from fieldmark.data.readers.columns import Columns
from fieldmark.data.sets import find
from fieldmark.data.splits import copies
from fieldmark.learning.fitting import without_labels
from fieldmark.learning.fitting.onward import Older
from fieldmark.learning.fitting.prepare import Prepared, prepare
from fieldmark.learning.fitting.seasons import grown
from fieldmark.runs.facts import Source
from fieldmark.runs.opening import catalog_of, opened_run
from fieldmark.runs.run import Run

__all__ = ["read_for", "run_at"]


def read_for(
    run: Run,
    recipe: Recipe,
    data: Path | str | Catalog,
    root: Path | str | None,
    columns: Columns | None,
    listener: Listener,
    older: Older | None = None,
    sized: Callable[[Path | str | Catalog, Columns | None], tuple[Catalog, Recipe]] | None = None,
) -> Prepared:
    """Read the data that a run is to learn from, which may be that of another run, and stand behind that of an `older`
    one; prepare it, and let the run remember it. Raises RunError if it is not what the run began with.

    `sized` looks at the data, by these columns, before it is decoded, and gives it with the recipe to decode it by.
    """
    files = without_labels.files(run, recipe, listener)
    made, further = run.decisions(), list[Source]()
    if older is not None:
        with relayed_warnings(listener):
            catalog, source, columns, further, splits = grown(older.run, data, root, columns, made, listener)
        if sized:
            catalog, recipe = sized(catalog, columns)
        files = undecided(files, catalog.root, made)
        prepared = prepare(catalog, recipe, listener, run, unlabelled=files, settled=splits)
        older.tell(run, prepared.catalog, splits, listener)
    elif (parent := run_at(data)) is not None:
        known = parent.data()
        source, columns, further = known["source"], columns or known.get("columns"), known.get("further", [])
        with relayed_warnings(listener):
            catalog = catalog_of(parent, None, root, listener, columns, made)
        if sized:
            catalog, recipe = sized(catalog, columns)
        files = undecided(files, catalog.root, made)
        prepared = prepare(catalog, recipe, listener, run, unlabelled=files)
    else:
        if not isinstance(data, Catalog):
            with relayed_warnings(listener):
                data = find(data, root, tell=listener.note)
        source = str(data.root if isinstance(data, Catalog) else data)
        if sized:
            data, recipe = sized(data, columns)
        prepared = prepare(data, recipe, listener, run, columns, made, files)
    pictures, copy_of = prepared.pixels.fingerprints.digests, copies(prepared.catalog.paths, prepared.clusters)
    run.write_data(source, prepared.catalog, pictures, columns, further, copy_of)
    without_labels.keep(run, prepared)
    return prepared


def run_at(data: Path | str | Catalog) -> Run | None:
    """The run that stands in place of data; None for data."""
    if isinstance(data, Catalog) or not (run := opened_run(Path(data).expanduser())).exists:
        return None
    if not run.data():
        raise RunError(f"{run.folder} does not say what data it was trained on", "Name the data: train DATA.")
    return run
