"""Every method, neck and head as an ONNX graph, with any number of images; on convolutions and on a transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fieldmark.answering.onnx import OnnxEngine
from fieldmark.answering.predictor import Predictor
from fieldmark.core.recipe import Choice
from fieldmark.exporting.graph import graph_of
from fieldmark.learning.conformance import NAMES, SOME, TASK, recipe_of
from fieldmark.model.build import build_model
from fieldmark.runs.bundle import Bundle


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "vit_tiny_patch16_224"])
@pytest.mark.parametrize(("name", "options", "neck", "head"), SOME)
def test_the_graph_answers_as_the_network(
    name: str, options: dict[str, Any], neck: str, head: str, backbone: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    recipe = recipe_of(name, backbone, 64, neck=neck, head=head)
    recipe = recipe.model_copy(update={"method": Choice.model_validate({"name": name, **options})})
    model = build_model(recipe, TASK)
    Predictor(Bundle(NAMES, recipe, model.backbone.normalization.interpolation), model).save(tmp_path)
    predictor = Predictor.load(tmp_path, device="cpu")
    graph = OnnxEngine(graph_of(predictor.bundle).SerializeToString(), predictor.bundle)
    for count in (1, 3):
        images = np.random.default_rng(count).integers(0, 256, (count, 3, 64, 64), np.uint8)
        ours, theirs = predictor.engine(images), graph(images)
        scale = max(1.0, float(np.abs(ours.logits).max()))
        np.testing.assert_allclose(theirs.logits, ours.logits, atol=1e-4 * scale)
        np.testing.assert_allclose(theirs.embedding, ours.embedding, atol=1e-3)
