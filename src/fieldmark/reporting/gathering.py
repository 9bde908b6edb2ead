"""A run gathered for a page, with the catalogue of its data if that can still be read."""

from __future__ import annotations

import warnings
from pathlib import Path

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.data.catalog import Catalog
from fieldmark.data.decisions import decided
from fieldmark.data.sets import read
from fieldmark.reporting.material import Material, gather
from fieldmark.runs.opening import data_of, is_source, opened_run
from fieldmark.runs.run import Run

__all__ = ["gathered"]


def _silent(text: str) -> None:
    """Training has already said it."""


def gathered(
    run: Path, data: Path | str | Catalog | None, *, root: Path | str | None = None, split: str | None = None
) -> Material:
    """Gather a run, with the catalogue of its data if that can still be read."""
    opened = Run.open(opened_run(run).folder)
    catalog, lost, known = None, "", opened.data()
    if isinstance(data, Catalog):
        catalog = data
    elif data or known:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # training has already said it
                catalog = (
                    data_of(known, data, root=root)
                    if data is None or is_source(known, data)
                    else read(data, root, columns=known.get("columns"))
                )
                catalog = decided(catalog, opened.decisions().present(catalog.root), _silent).catalog
        except DataError as error:
            if data is not None:
                raise
            lost = str(error)
    return gather(opened, catalog, lost=lost, split=split, other=catalog.root if catalog and data else None)
