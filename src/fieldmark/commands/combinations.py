"""Combinations of pieces that make no sense, each told before any data is read."""

from __future__ import annotations

from fieldmark.errors import RecipeError
from fieldmark.recipe import NONE, Recipe

__all__ = ["check_combination", "no_linear_head"]


def check_combination(recipe: Recipe) -> None:
    """Raise RecipeError for pieces that exist but do not go together."""
    train = recipe.train
    if "logistic" in (train.solver, train.head_start) and recipe.head.name != "linear":
        raise no_linear_head(recipe)
    pieces = {"neck": recipe.neck.name, "auxiliary": recipe.auxiliary.name}
    for section, name in pieces.items():
        if train.solver == "logistic" and name != NONE:
            raise RecipeError(
                f"train.solver = 'logistic' trains a head only, and the {section} {name!r} would learn nothing",
                f"Set {section}.name = 'none', or train.solver = 'gradient'.",
            )
    if recipe.auxiliary.name != NONE and recipe.augment.mix != NONE:
        raise RecipeError(
            f"The auxiliary {recipe.auxiliary.name!r} compares images of one class with those of others, and "
            f"augment.mix = {recipe.augment.mix!r} makes images of two classes",
            "Set augment.mix = 'none' or auxiliary.name = 'none'.",
        )
    if train.sampling == "class_batches" and (
        train.batch_size % train.images_per_class or train.batch_size < 2 * train.images_per_class
    ):
        raise RecipeError(
            f"A batch of train.batch_size = {train.batch_size} images cannot be of at least two classes with "
            f"train.images_per_class = {train.images_per_class} images each",
            f"Expected a multiple, such as {8 * train.images_per_class}.",
        )
    if train.sampling != "shuffled" and recipe.loss.options.get("logit_adjustment"):
        raise RecipeError(
            f"train.sampling = {train.sampling!r} and loss.logit_adjustment make up for rare classes twice",
            "Set train.sampling = 'shuffled' or loss.logit_adjustment = 0.",
        )


def no_linear_head(recipe: Recipe) -> RecipeError:
    """What to say where there is nothing for a logistic regression to fit."""
    return RecipeError(
        f"A logistic regression fits a linear head, and the method {recipe.method.name!r} with the head "
        f"{recipe.head.name!r} has none",
        "Use method.name = 'transfer' with head.name = 'linear', or train.solver = 'gradient' and "
        "train.head_start = 'random'.",
    )
