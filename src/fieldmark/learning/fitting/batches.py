"""Whether batches contain what an auxiliary compares: several images of a class."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import RecipeError
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import NONE, Recipe
from fieldmark.core.wording import first_few
from fieldmark.learning.fitting.curriculum import schedule_of
from fieldmark.learning.fitting.prepare import Prepared

__all__ = ["check_batches"]

_LOOKED_AT = 200
"""The number of batches that are examined."""
_CLASS_BATCHES = "Set train.sampling=class_batches and train.images_per_class=2."


def check_batches(recipe: Recipe, data: Prepared, listener: Listener) -> None:
    """Report classes that are too small for their batches, and images without another of their class in the batch.

    Raises RecipeError if this applies to all images, so that the auxiliary would learn nothing.
    """
    if recipe.train.solver == "logistic":
        return
    catalog, train = data.catalog, recipe.train
    rows = data.learnt(recipe)
    labels = catalog.labels[rows]
    if train.sampling == "class_batches":
        counts, wanted = np.bincount(labels, minlength=len(catalog.classes)), train.images_per_class
        if len(few := np.flatnonzero((counts > 0) & (counts < wanted))):
            listener.warn(
                f"Fewer than train.images_per_class = {wanted} training images in {len(few):,} of "
                f"{len(counts):,} classes. Their images are repeated within a batch, with different augmentation: "
                + first_few(f"{catalog.classes[k]} ({counts[k]:,})" for k in few)
            )
    if recipe.auxiliary.name == NONE:
        return
    batches = schedule_of(recipe, rows, labels).batches(0)
    met = np.concatenate(list(_partnered(catalog.labels, islice(batches, _LOOKED_AT))))
    name, batch = recipe.auxiliary.name, f"a batch of {train.batch_size} (train.sampling = {train.sampling!r})"
    if not met.any():
        raise RecipeError(
            f"The auxiliary {name!r} compares images of one class, but {batch} has only one image of each class",
            _CLASS_BATCHES,
        )
    if (share := met.mean()) < 0.5:
        listener.warn(
            f"Only {100 * share:.0f} % of the images share {batch} with another image of their class, "
            f"and the auxiliary {name!r} learns from these alone. {_CLASS_BATCHES}"
        )


def _partnered(labels: NDArray[np.int64], batches: Iterator[list[tuple[int, int]]]) -> Iterator[NDArray[np.bool_]]:
    """(B,) of each batch: whether an image has company of its class."""
    for batch in batches:
        _, which, counts = np.unique(labels[[row for _, row in batch]], return_inverse=True, return_counts=True)
        yield counts[which] > 1
