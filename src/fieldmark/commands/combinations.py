"""Combinations of pieces that make no sense, each told before any data is read."""

from __future__ import annotations

import torch

from fieldmark.augment.mixing import WEIGHED
from fieldmark.bundle import build_method
from fieldmark.errors import RecipeError
from fieldmark.losses.loss import Task
from fieldmark.model.method import METHODS, Method
from fieldmark.model.neck import NO_NECK
from fieldmark.recipe import Choice, Recipe

__all__ = ["check_combination"]


def check_combination(recipe: Recipe) -> None:
    """Raise RecipeError for pieces that exist and do not go together."""
    name, plan = recipe.method.name, recipe.train
    if METHODS.get(name).pools:
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
    if recipe.augment.mix in WEIGHED:
        _check_class_maps(recipe)


def _check_class_maps(recipe: Recipe) -> None:
    """Try it on noise, without weights: method, neck, head and backbone all have a say in it."""
    plain = recipe.model_copy(update={"loss": Choice(name="cross_entropy")})  # others need to know the data
    method = build_method(plain, Task(2), load_weights=False).eval()
    size = method.backbone.fixed_size or recipe.images.train_size
    maps = method.class_maps(torch.rand(1, 3, size, size), torch.zeros(1, dtype=torch.int64))
    mix = f"augment.mix = {recipe.augment.mix!r} weighs labels by class maps, and"
    if maps is None:
        offers = [name for name in METHODS if METHODS.get(name).class_maps is not Method.class_maps]
        raise RecipeError(
            f"{mix} the method {recipe.method.name!r} has none",
            f"Use augment.mix = 'cutmix', or one of the methods that have them: {', '.join(offers)}.",
        )
    if not maps.any():
        raise RecipeError(
            f"{mix} the backbone {recipe.backbone.name!r} answers by a class token, not by the cells of its map",
            "Use augment.mix = 'cutmix', or let it average: backbone.options.global_pool = 'avg', "
            "backbone.options.fc_norm = false.",
        )
