"""Networks and predictors for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fieldmark.answering.predictor import Predictor
from fieldmark.core.recipe import Recipe
from fieldmark.data.task import Task
from fieldmark.model.build import build_model
from fieldmark.model.method import Method
from fieldmark.model.model import Model
from fieldmark.runs.bundle import Bundle

__all__ = ["build_method", "predictor_of", "rewrite"]


def build_method(recipe: Recipe, task: Task) -> Method:
    """The method alone."""
    return build_model(recipe, task).method


def rewrite(bundle: Path, **changes: Any) -> None:
    """Change keys of model.json, without anybody noticing: the index goes, as bundles of before have none."""
    path = bundle / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"indexed": False} | changes))
    (bundle / "index.json").unlink(missing_ok=True)


def predictor_of(model: Model | Method, classes: tuple[str, ...], recipe: Recipe, **known: Any) -> Predictor:
    """What a training that ended with this network would answer with; `known` are further fields of its bundle."""
    whole = model if isinstance(model, Model) else Model(model)
    return Predictor(Bundle(classes, recipe, whole.backbone.normalization.interpolation, **known), whole)
