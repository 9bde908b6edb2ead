"""Whether this data can do what a recipe asks of backgrounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldmark.augment.background import BackgroundChange
from fieldmark.core.errors import RecipeError
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Recipe
from fieldmark.data.objects import knows_object, no_object
from fieldmark.learning.fitting.prepare import Prepared

__all__ = ["bind_background", "check_background", "check_background_option"]


def check_background_option(recipe: Recipe) -> None:
    """Raises RecipeError where backgrounds are to be exchanged in images that are learnt from as they are."""
    if recipe.augment.background and (recipe.train.solver == "logistic" or not recipe.augment.crop):
        raise RecipeError(
            "augment.background changes training images, and this recipe looks at each as it is",
            "Use a recipe that trains by gradients on random crops, such as finetune, or leave it out.",
        )


def check_background(recipe: Recipe, data: Prepared, listener: Listener) -> None:
    """Say once of how many images the background cannot be exchanged. Raises DataError where it is none, if the recipe
    insists."""
    if not recipe.augment.background:
        return
    rows = data.catalog.rows("train")
    unknown = rows[~knows_object(data.catalog)[rows]]
    if len(unknown) == len(rows) and recipe.augment.if_missing == "skip":
        listener.note(f"Going without augment.background: {no_object(data.catalog).problem}")
    elif len(unknown) == len(rows):
        raise no_object(data.catalog)
    elif len(unknown):
        example = data.catalog.paths[unknown[0]]
        share = f"{len(unknown):,} of {len(rows):,} training images"
        listener.warn(f"{share} have neither box nor mask and keep their background, such as {example}")


def bind_background(recipe: Recipe, data: Prepared, rows: NDArray[np.int64]) -> BackgroundChange | None:
    """What the recipe asks for, with backgrounds from `rows`; None where it asks for nothing."""
    donors = rows[knows_object(data.catalog)[rows]]
    if not recipe.augment.background or not len(donors):
        return None
    return BackgroundChange(recipe.augment.background, data.catalog, donors)
