"""What was learnt is the start of more: rows of known classes and values, whatever comes behind or between them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fieldmark.answering.predictor import Predictor
from fieldmark.core.errors import RunError
from fieldmark.core.recipe import Backbone, Images, Labels, Recipe
from fieldmark.data.task import Attribute, Task
from fieldmark.learning.training.start import Start
from fieldmark.model.build import build_model
from fieldmark.runs.bundle import Bundle

RECIPE = Recipe(
    images=Images(size=32),
    backbone=Backbone(name="test_resnet", weights="none"),
    labels=Labels(attributes=("sex", "age")),
)
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def attribute(name: str, *values: str) -> Attribute:
    return Attribute(name, values, (2,) * len(values))


@pytest.fixture
def begun(tmp_path: Path) -> Predictor:
    told = (attribute("sex", "female", "male"), attribute("age", "adult", "chick"))
    model = build_model(RECIPE, Task(3, (2, 2, 2), attributes=told)).eval()
    values = {one.name: one.values for one in told}
    Predictor(Bundle(("a", "b", "c"), RECIPE, attributes=values), model).save(tmp_path)
    return Predictor.load(tmp_path, device="cpu")


def test_values_of_attributes_are_found_by_name(begun: Predictor) -> None:
    told = (attribute("age", "adult", "chick", "egg"), attribute("sex", "female", "male", "unsure"))
    task = Task(4, (2,) * 4, attributes=(*told, attribute("morph", "dark", "pale")))
    model = build_model(RECIPE, task)
    Start(begun.bundle).give(model, task)
    with torch.no_grad():
        before, after = begun.model(IMAGES), model.eval()(IMAGES)
    torch.testing.assert_close(after.logits[:, :3], before.logits)
    sex, age = before.attributes
    torch.testing.assert_close(after.attributes[0][:, :2], age)
    torch.testing.assert_close(after.attributes[1][:, :2], sex)
    assert torch.isfinite(after.attributes[2]).all()


def test_values_that_come_between_move_the_others(begun: Predictor) -> None:
    task = Task(3, (2,) * 3, attributes=(attribute("sex", "male"), attribute("age", "adult", "baby", "chick")))
    model = build_model(RECIPE, task)
    Start(begun.bundle).give(model, task)
    with torch.no_grad():
        before, after = begun.model(IMAGES), model.eval()(IMAGES)
    torch.testing.assert_close(after.attributes[0][:, 0], before.attributes[0][:, 1])
    torch.testing.assert_close(after.attributes[1][:, [0, 2]], before.attributes[1])


def test_another_network_is_refused(begun: Predictor) -> None:
    task = Task(3, (2,) * 3)
    other = RECIPE.model_copy(update={"backbone": Backbone(name="mobilenetv3_small_050", weights="none")})
    with pytest.raises(RunError, match="belong to another network"):
        Start(begun.bundle).give(build_model(other, task), task)
