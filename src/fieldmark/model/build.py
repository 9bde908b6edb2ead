"""From a recipe to a network, in one expression."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fieldmark.core.errors import RecipeError
from fieldmark.core.memory import keep_freed_memory
from fieldmark.core.reading import reason
from fieldmark.core.recipe import NONE, Labels, Recipe
from fieldmark.data.task import Task
from fieldmark.model.attributes import AttributeHeads
from fieldmark.model.auxiliaries.auxiliary import AUXILIARIES
from fieldmark.model.backbone import Backbone, build_backbone
from fieldmark.model.head import Heads
from fieldmark.model.heads.classifier import CLASSIFIERS
from fieldmark.model.method import METHODS, Method
from fieldmark.model.model import Model
from fieldmark.model.necks.neck import NECKS

__all__ = ["build_model", "has_usual_size", "is_plain", "num_parameters"]


def build_model(recipe: Recipe, task: Task, *, load_weights: bool = True) -> Model:
    """The network that a recipe names, with random heads.

    Raises RecipeError for pieces that do not fit together, and WeightsError for weights that are unavailable.
    """
    keep_freed_memory()  # whoever has a network runs it
    with _explained(recipe):
        return Model(
            method := _method(
                recipe,
                build_backbone(recipe.backbone, size=recipe.images.size, neck=recipe.neck, load_weights=load_weights),
                Heads(task, recipe.head, recipe.loss, recipe.auxiliary),
            ),
            _attribute_heads(task, recipe.labels, method.backbone.width),
            mirrored=recipe.images.mirror,
        )


@contextmanager
def _explained(recipe: Recipe) -> Iterator[None]:
    """Turn what layers say about sizes that they cannot have into a RecipeError."""
    try:
        yield
    except (ArithmeticError, AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        if is_plain(recipe):
            raise
        raise RecipeError(
            f"No network can be built with these options of the backbone and the pieces: {reason(error)}",
            "Change or remove them.",
        ) from error


def num_parameters(recipe: Recipe, task: Task) -> int:
    """The number of parameters of the network that a recipe names, without any memory for them."""
    with torch.device("meta"):
        return sum(one.numel() for one in build_model(recipe, task, load_weights=False).parameters())


def has_usual_size(recipe: Recipe) -> bool:
    """Whether the size of the network follows from the names of its pieces: no whole number was changed, and only
    those are sizes. To count the parameters of others loads torch's compiler, which takes seconds."""
    return _one_of_each(recipe) and not any(type(value) is int for value in _changed(recipe))


def is_plain(recipe: Recipe) -> bool:
    """Whether all pieces are as they come."""
    return _one_of_each(recipe) and not any(True for _ in _changed(recipe))


def _one_of_each(recipe: Recipe) -> bool:
    return "+" not in recipe.backbone.name and not recipe.backbone.options


def _changed(recipe: Recipe) -> Iterator[Any]:
    """The options of the pieces that are not the defaults."""
    pieces = (
        (METHODS, recipe.method),
        (NECKS, recipe.neck),
        (CLASSIFIERS, recipe.head),
        (AUXILIARIES, recipe.auxiliary),
    )
    for registry, one in pieces:
        if one.name != NONE:
            usual = registry.options(one.name)
            yield from (value for key, value in registry.complete(*one.pair).items() if value != usual[key])


def _method(recipe: Recipe, backbone: Backbone, heads: Heads) -> Method:
    name, options = recipe.method.pair
    return METHODS.get(name)(backbone, heads, **METHODS.complete(name, options))  # type: ignore[call-arg]  # the contract


def _attribute_heads(task: Task, labels: Labels, width: int) -> AttributeHeads | None:
    if not task.attributes:
        return None
    return AttributeHeads(width, task.attributes, weight=labels.attribute_weight, balance=labels.attribute_balance)
