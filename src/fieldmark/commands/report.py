"""Report: what a run holds → one page to look at."""

from __future__ import annotations

import warnings
from pathlib import Path

from fieldmark.commands.evaluate import opened_run
from fieldmark.commands.listener import Listener
from fieldmark.data.catalog import Catalog
from fieldmark.data.splits import DataWarning
from fieldmark.datasets import read
from fieldmark.errors import DataError
from fieldmark.reporting import Material, compose, gather
from fieldmark.run import Run
from fieldmark.storage import write_bytes

__all__ = ["report"]


def report(
    run: Path | str,
    data: Path | str | Catalog | None = None,
    *,
    root: Path | str | None = None,
    out: Path | str | None = None,
    split: str | None = None,
    listener: Listener | None = None,
) -> Path:
    """Write RUN/report/index.html, or `out`, and return it.

    The page shows `split`; unless told otherwise the test part if it was evaluated, else what training kept back.
    `data` (and `root`, as in `fieldmark.train`) says where the images are now if they were moved. What is missing
    (predictions, pictures) the page says itself, and the listener is warned. Raises RunError where there is no run or
    `split` was not evaluated.
    """
    listener = listener or Listener()
    material = gathered(Path(run), data, root=root, split=split)
    if material.shown is None:
        listener.warn(f"{run} has no predictions yet. The report will show more after: fieldmark evaluate {run}")
    page = compose(material)
    if missing := material.pictures.missing:
        count = f"{len(missing):,} of {material.pictures.count:,} pictures"
        hint = f". If the data was moved: fieldmark report {run} DATA" if data is None else ""
        listener.warn(f"{count} cannot be read, such as {missing[0]}{hint}")
    path = Path(out) if out is not None else material.run.folder / "report" / "index.html"
    write_bytes(path, page.encode())
    return path


def gathered(
    run: Path, data: Path | str | Catalog | None, *, root: Path | str | None = None, split: str | None = None
) -> Material:
    """A run with the catalogue of its data, if that can still be read."""
    opened = Run.open(opened_run(run).folder)
    catalog, lost = None, ""
    if isinstance(data, Catalog):
        catalog = data
    elif source := data or opened.data().get("source"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # training has said it
                catalog = read(source, root)
        except DataError as error:
            if data is not None:
                raise
            lost = str(error)
    return gather(opened, catalog, lost=lost, split=split, other=catalog.root if catalog and data else None)
