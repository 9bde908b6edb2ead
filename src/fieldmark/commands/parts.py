"""Parts: the part centres that a model discovered, as key points, and a page that shows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fieldmark.answering.parts.finding import Parts, find_parts, sights
from fieldmark.answering.predictor import Predictor
from fieldmark.core.claims import check_replaceable
from fieldmark.core.listener import Done, Listener, relayed_warnings
from fieldmark.core.machine import AUTO
from fieldmark.core.storage import check_writable, write_bytes
from fieldmark.data.catalog import Catalog
from fieldmark.data.readers.columns import Columns
from fieldmark.data.write import write_catalog
from fieldmark.evaluation.part_names import numbered
from fieldmark.reporting.parts import Example, compose_parts
from fieldmark.runs.opening import EVERYTHING, catalog_of, opened_run, rows_of

__all__ = ["parts"]

_SHOWN = 24
"""The number of photographs that the page is made from."""


def parts(
    run: Path | str,
    data: Path | str | Catalog | None = None,
    *,
    root: Path | str | None = None,
    columns: Columns | None = None,
    out: Path | str | None = None,
    split: str | None = None,
    device: str = AUTO,
    listener: Listener | None = None,
) -> Parts:
    """Write the centres of a run's parts as key points: a table that `fieldmark.train` can read, and a page beside it.

    `data` is what `fieldmark.train` takes, by default the data of the run; its classes may differ from those of the
    run. All images are used unless `split` names a split. `out` is the table, by default RUN/parts/<split>.csv; the
    page has the same name with .html. If the data has key points, the distance of the parts from them is measured on
    images that were not used in training. Raises RunError if the method of the run has no part maps, DataError if
    there is no image, and StorageError if nothing can be written or the page would replace a file of the user's.
    """
    listener = listener or Listener()
    opened, predictor = opened_run(Path(run)), Predictor.load(run, device=device)
    with relayed_warnings(listener):
        catalog = catalog_of(opened, data, root, listener, columns)
    chosen = split or EVERYTHING
    table = Path(out) if out is not None else opened.folder / "parts" / f"{chosen}.csv"
    check_replaceable(table.with_suffix(".html"))  # before the work
    check_writable(table.parent)
    found = find_parts(predictor, catalog, rows_of(catalog, chosen), listener)
    found = replace(found, table=table, page=table.with_suffix(".html"))
    write_catalog(table, found.catalog)
    write_bytes(table.with_suffix(".html"), _page(found, predictor).encode())
    listener.hear(Done("parts", table.parent))
    return found


def _page(found: Parts, predictor: Predictor) -> str:
    """The page, drawn on random photographs of as many classes as possible."""
    catalog = found.catalog
    order = np.random.default_rng(0).permutation(len(catalog))
    first = {int(catalog.labels[row]): int(row) for row in order[::-1]}.values()
    chosen = list(dict.fromkeys([*first, *order.tolist()]))[:_SHOWN]
    examples = [
        Example(one.pixels, one.maps, one.centres, catalog.classes[catalog.labels[one.row]], catalog.paths[one.row])
        for one in sights(predictor, catalog, np.array(chosen))
    ]
    return compose_parts(
        found.names,
        examples,
        found.matches,
        visible=(catalog.keypoints[..., 2].mean(axis=0).tolist() if catalog.keypoints is not None else []),
        num_images=len(catalog),
        num_measured=found.num_measured,
        has_background=predictor.model.method.has_background,
        title=catalog.name,
        unnamed=found.names == numbered(len(found.names)),
    )
