"""Networks and predictors for tests."""

from __future__ import annotations

from typing import Any

from fieldmark.answering.predictor import Predictor
from fieldmark.core.recipe import Recipe
from fieldmark.data.task import Task
from fieldmark.model.build import build_model
from fieldmark.model.method import Method
from fieldmark.model.model import Model
from fieldmark.runs.bundle import Bundle

__all__ = ["build_method", "predictor_of"]


def build_method(recipe: Recipe, task: Task) -> Method:
    """The method alone."""
    return build_model(recipe, task).method


def predictor_of(model: Model | Method, classes: tuple[str, ...], recipe: Recipe, **known: Any) -> Predictor:
    """What a training that ended with this network would answer with; `known` are further fields of its bundle."""
    whole = model if isinstance(model, Model) else Model(model)
    return Predictor(Bundle(classes, recipe, whole.backbone.normalization.interpolation, **known), whole)
