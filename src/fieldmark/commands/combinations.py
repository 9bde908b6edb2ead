"""Combinations of pieces that make no sense, each told before any data is read."""

from __future__ import annotations

from fieldmark.errors import RecipeError
from fieldmark.model.method import METHODS
from fieldmark.model.neck import NO_NECK
from fieldmark.recipe import Recipe

__all__ = ["check_combination"]


def check_combination(recipe: Recipe) -> None:
    """Raise RecipeError for pieces that exist and do not go together."""
    name, options, plan = *recipe.method.pair, recipe.train
    method = METHODS.get(name)
    if method.pools:
        if recipe.neck.name != NO_NECK:
            raise RecipeError(
                f"The method {name!r} pools the feature map itself, so the neck {recipe.neck.name!r} would do nothing",
                "Leave the neck away, or use it with method.name = 'transfer'.",
            )
        if plan.solver == "logistic" or plan.head_start == "logistic":
            key = "solver" if plan.solver == "logistic" else "head_start"
            raise RecipeError(
                f"train.{key} = 'logistic' leaves what the method {name!r} pools by as it was drawn",
                f"Use method.name = 'transfer', or train.{key} = '{'gradient' if key == 'solver' else 'random'}'.",
            )
    if "hard_labels" in method.required(options) and recipe.augment.mix != "none":
        raise RecipeError(
            f"The method {name!r} with these options learns from single pictures, and augment.mix = "
            f"{recipe.augment.mix!r} mixes them",
            "Set augment.mix=none" + (", or method.supervise=0." if options.get("supervise") else "."),
        )
