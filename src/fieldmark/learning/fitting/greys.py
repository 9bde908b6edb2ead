"""How many bits 16-bit greyscale pictures use: the recipe decides, or a measurement on the data."""

from __future__ import annotations

import numpy as np

from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Recipe
from fieldmark.data.catalog import Catalog
from fieldmark.data.greys import may_be_deep, measure_depth
from fieldmark.runs.run import Run

__all__ = ["decide_grey_bits"]


def decide_grey_bits(run: Run | None, recipe: Recipe, catalog: Catalog, listener: Listener) -> int | None:
    """Decide how many bits of 16-bit greyscale pictures are in use; None if there are none to learn from.

    With grey_bits = "auto" this is measured, once for a run, on the training split, or on all images of data that is
    still to be split. The result is kept in the run, if there is one.
    """
    if recipe.images.grey_depth is not None:
        return recipe.images.grey_depth
    found = run.decided("grey_bits") if run else None
    if found is None:
        rows = np.flatnonzero(np.isin(catalog.splits, ("train", "")))
        paths = (catalog.paths[row] for row in rows.tolist())
        depth = measure_depth(catalog.file_at(path) for path in paths if may_be_deep(path))
        found = depth._asdict() if depth else {"bits": None}
        if run:
            run.decide("grey_bits", found)
    bits: int | None = found["bits"]
    if bits is not None and bits < 16:
        listener.note(
            f"16-bit grey pictures are read as {bits}-bit ones: the largest value in {found['pictures']:,} of them is "
            f"{found['largest']:,} (set images.grey_bits=16 to read them as they are)"
        )
    return bits
