"""Whether the data allows the background changes that a recipe asks for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldmark.augment.background import BackgroundChange
from fieldmark.core.errors import RecipeError
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Recipe
from fieldmark.core.wording import counted
from fieldmark.data.objects import knows_object, no_object
from fieldmark.learning.fitting.prepare import Prepared

__all__ = ["bind_background", "check_background", "check_background_option"]


def check_background_option(recipe: Recipe) -> None:
    """Raise RecipeError if backgrounds should be exchanged in images that are not augmented."""
    if recipe.augment.background and (recipe.train.solver == "logistic" or not recipe.augment.crop):
        raise RecipeError(
            "augment.background changes training images, but this recipe does not augment them",
            "Use a recipe that trains by gradients on random crops, such as finetune, or leave this option out.",
        )


def check_background(recipe: Recipe, data: Prepared, listener: Listener) -> None:
    """Report how many images must keep their background. Raises DataError if all must and the recipe insists."""
    if not recipe.augment.background:
        return
    rows = data.catalog.rows("train")
    unknown = rows[~knows_object(data.catalog)[rows]]
    if len(unknown) == len(rows) and recipe.augment.if_missing == "skip":
        listener.note(f"Continuing without augment.background: {no_object(data.catalog).problem}")
    elif len(unknown) == len(rows):
        raise no_object(data.catalog)
    elif len(unknown):
        example = data.catalog.paths[unknown[0]]
        share = f"{len(unknown):,} of {counted(len(rows), 'training image')}"
        listener.warn(f"No box or mask in {share}, which will keep their background, such as {example}")


def bind_background(recipe: Recipe, data: Prepared, rows: NDArray[np.int64]) -> BackgroundChange | None:
    """The change that the recipe asks for, with backgrounds from `rows`, or None if it asks for none."""
    donors = rows[knows_object(data.catalog)[rows]]
    if not recipe.augment.background or not len(donors):
        return None
    return BackgroundChange(recipe.augment.background, data.catalog, donors)
