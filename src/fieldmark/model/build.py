"""From a recipe to a network, in one expression."""

from __future__ import annotations

from fieldmark.core.memory import keep_freed_memory
from fieldmark.core.recipe import Labels, Recipe
from fieldmark.data.task import Task
from fieldmark.model.attributes import AttributeHeads
from fieldmark.model.backbone import Backbone, build_backbone
from fieldmark.model.head import Heads
from fieldmark.model.method import METHODS, Method
from fieldmark.model.model import Model

__all__ = ["build_model"]


def build_model(recipe: Recipe, task: Task, *, load_weights: bool = True) -> Model:
    """The network that a recipe names, with random heads.

    Raises RecipeError for pieces that do not fit together, and WeightsError for weights that are unavailable.
    """
    keep_freed_memory()  # whoever has a network runs it
    return Model(
        method := _method(
            recipe,
            build_backbone(recipe.backbone, size=recipe.images.size, neck=recipe.neck, load_weights=load_weights),
            Heads(task, recipe.head, recipe.loss, recipe.auxiliary),
        ),
        _attribute_heads(task, recipe.labels, method.backbone.width),
        mirrored=recipe.images.mirror,
    )


def _method(recipe: Recipe, backbone: Backbone, heads: Heads) -> Method:
    name, options = recipe.method.pair
    return METHODS.get(name)(backbone, heads, **METHODS.complete(name, options))  # type: ignore[call-arg]  # the contract


def _attribute_heads(task: Task, labels: Labels, width: int) -> AttributeHeads | None:
    if not task.attributes:
        return None
    return AttributeHeads(width, task.attributes, weight=labels.attribute_weight, balance=labels.attribute_balance)
