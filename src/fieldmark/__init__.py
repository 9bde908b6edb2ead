"""Fieldmark: fine-grained image classification.

>>> import fieldmark
>>> run = fieldmark.train("photographs/", out="runs/birds")
>>> fieldmark.evaluate(run.folder).scores["top1"]
>>> bundle = fieldmark.Bundle.load("runs/birds")
>>> bundle.predict(["new.jpg"])[0]
>>> bundle.embed(["new.jpg"])

Everything is imported on first use, so that `import fieldmark` and the command line's help are instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fieldmark.bundle import Bundle
    from fieldmark.classifier import Classifier
    from fieldmark.commands.audit import audit
    from fieldmark.commands.compare import compare
    from fieldmark.commands.evaluate import Evaluation, evaluate
    from fieldmark.commands.explain import explain
    from fieldmark.commands.listener import Listener
    from fieldmark.commands.parts import Parts, parts
    from fieldmark.commands.predict import Skipped, predict
    from fieldmark.commands.preview import preview
    from fieldmark.commands.report import report
    from fieldmark.commands.show import show
    from fieldmark.commands.train import train
    from fieldmark.comparison import Leaderboard
    from fieldmark.data.catalog import Catalog
    from fieldmark.data.findings import Audit, Finding
    from fieldmark.datasets import read
    from fieldmark.errors import (
        DataError,
        FieldmarkError,
        ImageError,
        RecipeError,
        RunError,
        StorageError,
        TrainingError,
        WeightsError,
    )
    from fieldmark.evaluation.verdict import Verdict
    from fieldmark.explaining.explanation import Explanation
    from fieldmark.fieldguide import draw
    from fieldmark.recipe import Recipe, load_recipe
    from fieldmark.run import Run

_HOMES = {
    "Audit": "data.findings",
    "Bundle": "bundle",
    "Catalog": "data.catalog",
    "Classifier": "classifier",
    "DataError": "errors",
    "Evaluation": "commands.evaluate",
    "Explanation": "explaining.explanation",
    "FieldmarkError": "errors",
    "Finding": "data.findings",
    "ImageError": "errors",
    "Leaderboard": "comparison",
    "Listener": "commands.listener",
    "Parts": "commands.parts",
    "Recipe": "recipe",
    "RecipeError": "errors",
    "Run": "run",
    "RunError": "errors",
    "Skipped": "commands.predict",
    "StorageError": "errors",
    "TrainingError": "errors",
    "Verdict": "evaluation.verdict",
    "WeightsError": "errors",
    "audit": "commands.audit",
    "compare": "commands.compare",
    "draw": "fieldguide",
    "evaluate": "commands.evaluate",
    "explain": "commands.explain",
    "load_recipe": "recipe",
    "parts": "commands.parts",
    "predict": "commands.predict",
    "preview": "commands.preview",
    "read": "datasets",
    "report": "commands.report",
    "show": "commands.show",
    "train": "commands.train",
}

__all__ = [
    "Audit",
    "Bundle",
    "Catalog",
    "Classifier",
    "DataError",
    "Evaluation",
    "Explanation",
    "FieldmarkError",
    "Finding",
    "ImageError",
    "Leaderboard",
    "Listener",
    "Parts",
    "Recipe",
    "RecipeError",
    "Run",
    "RunError",
    "Skipped",
    "StorageError",
    "TrainingError",
    "Verdict",
    "WeightsError",
    "audit",
    "compare",
    "draw",
    "evaluate",
    "explain",
    "load_recipe",
    "parts",
    "predict",
    "preview",
    "read",
    "report",
    "show",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fieldmark' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fieldmark.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
