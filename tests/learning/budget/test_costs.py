"""Costs are timed once on noise, and then taken from what was done in earnest."""

from __future__ import annotations

import pytest

from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Backbone, Recipe, load_recipe
from fieldmark.data.task import Task
from fieldmark.learning.budget import costs as module
from fieldmark.learning.budget.costs import Costs
from fieldmark.learning.training.bare import Workbench
from fieldmark.learning.training.probe import STRENGTHS

SMALL = Backbone(name="test_resnet", weights="none")
MACHINE = Machine("cpu", 1, 0, "fp32")


def small(name: str) -> Recipe:
    recipe = load_recipe(name).with_overrides(["images.size=32"])
    return recipe.model_copy(update={"backbone": SMALL})


def test_what_was_done_in_earnest_is_believed_at_every_size() -> None:
    costs = Costs(MACHINE, in_seconds=True)
    costs.measure(SMALL, 64)
    costs.answered(SMALL, 32, 0.5)
    costs.measure(SMALL, 32)
    assert costs.answer(SMALL, 32) == 0.5
    assert costs.answer(SMALL, 64) < 0.5
    recipe = small("finetune")
    costs.measure_learning(recipe, Task(3))
    assert costs.step(recipe, batch=8) >= 8 * 0.5, "cutting a picture takes as long as before"


def test_it_is_a_step_of_the_recipe_that_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its network's answer costs: bilinear attention looks three times at each picture."""
    passes = {"Transfer": 1.0, "BilinearAttention": 3.0}
    monkeypatch.setattr(Workbench, "step", lambda bench, way: passes[type(bench.model.method).__name__])
    monkeypatch.setattr(module, "_once", lambda work: 0.1)
    costs = Costs(MACHINE, in_seconds=True)
    costs.measure(SMALL, 32)
    plain, rival = small("finetune"), small("bilinear_attention")
    costs.measure_learning(plain, Task(3))
    costs.measure_learning(rival, Task(3), rival="bilinear_attention")
    assert costs.step(rival, 8, rival="bilinear_attention") == pytest.approx(3 * costs.step(plain, 8))


def test_a_size_that_was_not_timed_goes_by_the_number_of_pixels() -> None:
    costs = Costs(MACHINE, in_seconds=True)
    costs.answered(SMALL, 32, 0.1)
    assert costs.answer(SMALL, 64) == pytest.approx(0.4)


def test_in_images_a_look_costs_one() -> None:
    costs = Costs(MACHINE, in_seconds=False)
    costs.measure(SMALL, 32)
    costs.measure_learning(small("finetune"), Task(3))
    costs.look_at_regression(100, 3)
    assert (costs.answer(SMALL, 32), costs.step(small("finetune"), batch=8)) == (1, 8)
    assert costs.heads(7) == costs.mirror(500, 10) == costs.decode(500) == costs.loading == costs.finishing == 0
    assert costs.strengths(0) == tuple(STRENGTHS["unit"])


def test_fewer_values_of_c_are_tried_in_less_time() -> None:
    costs = Costs(MACHINE, in_seconds=True)
    costs.fitted(15.0, strengths=7)
    assert costs.regression == 1.0
    assert costs.strengths(100) == tuple(STRENGTHS["unit"])
    assert costs.strengths(7.5) == (30.0, 100.0, 300.0)
    assert costs.strengths(0) == (100.0,)
    assert costs.heads(3) == 7
