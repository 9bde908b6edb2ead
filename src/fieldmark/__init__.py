"""Fieldmark: fine-grained image classification.

>>> import fieldmark
>>> run = fieldmark.train("photographs/", out="runs/birds")
>>> fieldmark.evaluate(run.folder).scores["top1"]
>>> predictor = fieldmark.Predictor.load("runs/birds")
>>> predictor.predict("new.jpg")[0]
>>> predictor.embed("new.jpg")

Everything is imported on first use, so that `import fieldmark` and the command line's help are instant. What a listener
hears is in `fieldmark.core.listener`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fieldmark.core.imports import uncollected

if TYPE_CHECKING:
    from fieldmark.answering.explaining.explanation import Explanation
    from fieldmark.answering.parts.finding import Parts
    from fieldmark.answering.predictor import Predictor
    from fieldmark.answering.things import Skipped
    from fieldmark.classifier import Classifier
    from fieldmark.commands.audit import audit
    from fieldmark.commands.backbones import backbones
    from fieldmark.commands.bench import bench
    from fieldmark.commands.bundle import Shipped, bundle
    from fieldmark.commands.compare import compare
    from fieldmark.commands.doubt import doubt
    from fieldmark.commands.enrol import Enrolled, enrol
    from fieldmark.commands.evaluate import evaluate
    from fieldmark.commands.explain import explain
    from fieldmark.commands.export import Exported, export
    from fieldmark.commands.index import index
    from fieldmark.commands.next import next
    from fieldmark.commands.parts import parts
    from fieldmark.commands.predict import predict
    from fieldmark.commands.predict_into import Predicted, predict_into
    from fieldmark.commands.preview import preview
    from fieldmark.commands.report import report
    from fieldmark.commands.retrieve import Retrieved, retrieve
    from fieldmark.commands.search import search
    from fieldmark.commands.serve import serve
    from fieldmark.commands.shards import shards
    from fieldmark.commands.show import show
    from fieldmark.commands.train import train
    from fieldmark.commands.verify import identify, measure, verify
    from fieldmark.comparison import Leaderboard
    from fieldmark.core.errors import (
        DataError,
        DeviceError,
        FieldmarkError,
        ImageError,
        RecipeError,
        RunError,
        StorageError,
        TrainingError,
        WeightsError,
    )
    from fieldmark.core.listener import Listener
    from fieldmark.core.recipe import Recipe, load_recipe
    from fieldmark.data.auditing.findings import Audit, Finding
    from fieldmark.data.catalog import Catalog
    from fieldmark.data.sets import read
    from fieldmark.data.sharding import Sharded
    from fieldmark.data.taxonomy import Taxonomy
    from fieldmark.evaluation.verdict import Verdict
    from fieldmark.fieldguide import draw
    from fieldmark.gallery.finding import Found
    from fieldmark.gallery.gallery import Gallery
    from fieldmark.gallery.indexing import Indexed
    from fieldmark.gallery.judged import Identified, Measured, Verified
    from fieldmark.learning.fitting.fit import Stopped
    from fieldmark.learning.fitting.limits import Bench
    from fieldmark.runs.bundle import Bundle
    from fieldmark.runs.record import Evaluation
    from fieldmark.runs.run import Run

_HOMES = {
    "Audit": "data.auditing.findings",
    "Bench": "learning.fitting.limits",
    "Bundle": "runs.bundle",
    "Catalog": "data.catalog",
    "Classifier": "classifier",
    "DataError": "core.errors",
    "DeviceError": "core.errors",
    "Enrolled": "commands.enrol",
    "Evaluation": "runs.record",
    "Explanation": "answering.explaining.explanation",
    "Exported": "commands.export",
    "FieldmarkError": "core.errors",
    "Finding": "data.auditing.findings",
    "Found": "gallery.finding",
    "Gallery": "gallery.gallery",
    "Identified": "gallery.judged",
    "ImageError": "core.errors",
    "Indexed": "gallery.indexing",
    "Leaderboard": "comparison",
    "Listener": "core.listener",
    "Measured": "gallery.judged",
    "Parts": "answering.parts.finding",
    "Predicted": "commands.predict_into",
    "Predictor": "answering.predictor",
    "Recipe": "core.recipe",
    "RecipeError": "core.errors",
    "Retrieved": "commands.retrieve",
    "Run": "runs.run",
    "RunError": "core.errors",
    "Sharded": "data.sharding",
    "Shipped": "commands.bundle",
    "Skipped": "answering.things",
    "Stopped": "learning.fitting.fit",
    "StorageError": "core.errors",
    "Taxonomy": "data.taxonomy",
    "TrainingError": "core.errors",
    "Verdict": "evaluation.verdict",
    "Verified": "gallery.judged",
    "WeightsError": "core.errors",
    "audit": "commands.audit",
    "backbones": "commands.backbones",
    "bench": "commands.bench",
    "bundle": "commands.bundle",
    "compare": "commands.compare",
    "doubt": "commands.doubt",
    "draw": "fieldguide",
    "enrol": "commands.enrol",
    "evaluate": "commands.evaluate",
    "explain": "commands.explain",
    "export": "commands.export",
    "identify": "commands.verify",
    "index": "commands.index",
    "load_recipe": "core.recipe",
    "measure": "commands.verify",
    "next": "commands.next",
    "parts": "commands.parts",
    "predict": "commands.predict",
    "predict_into": "commands.predict_into",
    "preview": "commands.preview",
    "read": "data.sets",
    "report": "commands.report",
    "retrieve": "commands.retrieve",
    "search": "commands.search",
    "serve": "commands.serve",
    "shards": "commands.shards",
    "show": "commands.show",
    "train": "commands.train",
    "verify": "commands.verify",
}

__all__ = [
    "Audit",
    "Bench",
    "Bundle",
    "Catalog",
    "Classifier",
    "DataError",
    "DeviceError",
    "Enrolled",
    "Evaluation",
    "Explanation",
    "Exported",
    "FieldmarkError",
    "Finding",
    "Found",
    "Gallery",
    "Identified",
    "ImageError",
    "Indexed",
    "Leaderboard",
    "Listener",
    "Measured",
    "Parts",
    "Predicted",
    "Predictor",
    "Recipe",
    "RecipeError",
    "Retrieved",
    "Run",
    "RunError",
    "Sharded",
    "Shipped",
    "Skipped",
    "Stopped",
    "StorageError",
    "Taxonomy",
    "TrainingError",
    "Verdict",
    "Verified",
    "WeightsError",
    "audit",
    "backbones",
    "bench",
    "bundle",
    "compare",
    "doubt",
    "draw",
    "enrol",
    "evaluate",
    "explain",
    "export",
    "identify",
    "index",
    "load_recipe",
    "measure",
    "next",
    "parts",
    "predict",
    "predict_into",
    "preview",
    "read",
    "report",
    "retrieve",
    "search",
    "serve",
    "shards",
    "show",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fieldmark' has no attribute {name!r}")
    with uncollected():
        return getattr(importlib.import_module(f"fieldmark.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
