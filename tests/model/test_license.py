"""The licence of weights, wherever they come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fieldmark.answering.predictor import Predictor
from fieldmark.core.recipe import Backbone, Recipe
from fieldmark.data.task import Task
from fieldmark.model.build import build_model
from fieldmark.model.license import is_noncommercial, weights_license
from support.models import predictor_of


@pytest.mark.parametrize(
    ("name", "license"),
    [
        ("mobilenetv2_100", "apache-2.0"),
        ("resnet50", "apache-2.0"),
        ("vit_small_patch14_dinov2", "apache-2.0"),
        ("convnextv2_atto", "cc-by-nc-4.0"),
        ("convnext_base.dinov3_lvd1689m", "dinov3-license"),
        ("vit_tiny_patch16_18x2_never_trained", "unknown"),
    ],
)
def test_of_timms_weights(name: str, license: str) -> None:
    assert weights_license(Backbone(name=name, weights="hub")) == license


def test_of_no_weights_and_of_those_that_come_along() -> None:
    assert weights_license(Backbone(name="convnextv2_atto", weights="none")) == "none"
    assert weights_license(Backbone(name="test_resnet", weights="fieldguide")) == "apache-2.0"


def test_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    assert weights_license(Backbone(weights=str(path))) == "unknown"
    save_file({"a": torch.ones(1)}, path)
    assert weights_license(Backbone(weights=str(path))) == "unknown"
    save_file({"a": torch.ones(1)}, path, {"license": "mit"})
    assert weights_license(Backbone(weights=str(path))) == "mit"


def test_a_bundle_hands_the_licence_on(tmp_path: Path) -> None:
    recipe = Recipe(backbone=Backbone(name="test_resnet", weights="none"))
    predictor = predictor_of(build_model(recipe, Task(2)), ("a", "b"), recipe, provenance={"license": "cc-by-nc-4.0"})
    predictor.save(tmp_path)
    assert Predictor.load(tmp_path).bundle.provenance["license"] == "cc-by-nc-4.0"
    assert weights_license(Backbone(weights=str(tmp_path / "model.safetensors"))) == "cc-by-nc-4.0"


@pytest.mark.parametrize(
    ("license", "forbids"),
    [
        ("cc-by-nc-4.0", True),
        ("CC-BY-NC-SA-4.0", True),
        ("fair-noncommercial-research-license", True),
        ("apple-amlr", True),
        ("apache-2.0", False),
        ("apple-ascl", False),
        ("ncsa", False),
        ("unknown", False),
    ],
)
def test_what_is_for_research_only(license: str, forbids: bool) -> None:
    assert is_noncommercial(license) is forbids
