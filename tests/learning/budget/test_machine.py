"""The machine is measured within a budget, too: before networks are timed, and out of the budget's own time."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from fieldmark.commands.train import train
from fieldmark.core.listener import Listener
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Backbone, Recipe, load_recipe
from fieldmark.data.task import Task
from fieldmark.learning.budget.costs import Costs
from fieldmark.learning.fitting import tuning
from fieldmark.learning.fitting.fit import Fit
from fieldmark.learning.training.bare import Duel, Job, Way, duels_of
from support.hearing import Heard
from support.tuning import Trial

ROWS = np.arange(30)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with so many pictures that validation images can judge."""
    root, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    for name, color in {"red": (170, 110, 110), "blue": (110, 110, 170)}.items():
        (root / name).mkdir()
        for number in range(110):
            pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
            pixels[:, rng.integers(0, 32) :][:, :8] = color
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    return root


def stub(**machine: Any) -> Fit:
    """As much of a fit as a trial looks at."""
    fit = SimpleNamespace(
        recipe=Recipe(),
        machine=Machine(**{"device": "cpu", "threads": 1, "workers": 0, "precision": "bf16"} | machine),
        task=lambda rows: Task(num_classes=3),
        listener=Listener(),
    )
    return cast(Fit, fit)


@pytest.mark.parametrize(("budget", "most"), [("10m", 75.0), ("3600 images", float("inf"))])
def test_networks_are_timed_and_trained_in_the_faster_precision_and_the_recipe_names_it(
    budget: str, most: float, tried: list[Trial], many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed, measure = list[str](), Costs.measure_learning

    def spied(costs: Costs, *asked: Any, **named: Any) -> None:
        timed.append(costs.machine.precision)
        measure(costs, *asked, **named)

    monkeypatch.setattr(Costs, "measure_learning", spied)
    heard, named = Heard(), {"backbone": "test_resnet", "weights": "fieldguide"}
    changes = ["images.size=32", "train.epochs=1", "train.solver=gradient", "backbone.mean=[0.5, 0.5, 0.5]"]
    run = train(many, out=tmp_path / "run", budget=budget, overrides=changes, listener=heard, **named)
    assert timed[-1] == "fp32"
    (trial,) = tried
    assert trial.most == pytest.approx(most, rel=0.2)
    assert trial.most <= most
    assert sum("3.0 times as fast in fp32 as in bf16" in note for note in heard.notes) == 1
    assert run.machine().precision == "fp32"
    assert load_recipe(str(run.folder / "recipe.toml")).train.precision == "fp32", "to repeat it is to compute alike"


def test_the_recipe_of_a_probe_names_no_precision(tried: list[Trial], many: Path, tmp_path: Path) -> None:
    changes = ["images.size=32", "backbone.mean=[0.5, 0.5, 0.5]"]
    run = train(
        many,
        out=tmp_path / "run",
        budget="400 images",
        backbone="test_resnet",
        weights="fieldguide",
        overrides=changes,
    )
    assert run.recipe().train.solver == "logistic"
    assert run.recipe().train.precision == "auto"
    assert tried == [], "no network was possible"


def test_a_short_budget_makes_no_trial_but_uses_what_an_earlier_one_found(tried: list[Trial]) -> None:
    assert tuning.fastest_machine(stub(), ROWS, seconds=100.0) == (stub().machine, None)
    assert not tried
    machine, _ = tuning.fastest_machine(stub(), ROWS, seconds=160.0)
    assert (machine.precision, [trial.most for trial in tried]) == ("fp32", [20.0])
    machine, _ = tuning.fastest_machine(stub(), ROWS, seconds=30.0)
    assert (machine.precision, [trial.most for trial in tried]) == ("fp32", [20.0])


def test_no_trial_is_made_for_few_images_however_long_the_budget_is(
    tried: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_estimated", lambda fit, rows, images, seconds: tuning._Estimate(images, 0.1, 0.001))
    tuning.fastest_machine(stub(), ROWS, images=500, seconds=1e6)
    assert not tried
    tuning.fastest_machine(stub(), ROWS, images=5000, seconds=1e6)
    assert tried


def test_a_trial_that_was_cut_short_is_used_and_not_kept(tried: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(job: Job, most: float) -> list[Duel | None]:
        tried.append(Trial(job, most))
        patch.setattr(tuning.time, "perf_counter", lambda: 1e9)  # the time is over
        return [Duel(0.3, 0.1, 0.0)]

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "duels_of", cut)
        machine, _ = tuning.fastest_machine(stub(), ROWS, seconds=160.0)
    assert machine.precision == "fp32"
    tuning.fastest_machine(stub(), ROWS, seconds=30.0)
    tuning.fastest_machine(stub(), ROWS)
    assert len(tried) == 2


def test_a_trial_ends_when_its_time_is_over() -> None:
    """Its process is ended in the middle; it takes seconds to load libraries alone."""
    began = time.monotonic()
    job = Job(Recipe(), Task(num_classes=3), "cpu", Way("fp32", 1), [{"layout": "contiguous"}])
    assert duels_of(job, 0.2) == []
    assert time.monotonic() - began < 5


def test_what_was_timed_on_another_machine_is_timed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = (Machine("cpu", 1, 0, precision) for precision in ("bf16", "fp32"))
    backbone, costs = Backbone(name="test_resnet", weights="none"), Costs(before, in_seconds=True)
    recipe = Recipe(backbone=backbone).with_overrides(["images.size=32"])
    costs.measure(backbone, 32)
    costs.measure_learning(recipe, Task(num_classes=3))
    costs.answered(backbone, 32, 0.5)
    seen, built = list[str](), Costs._built

    def spied(costs: Costs, *asked: Any) -> Any:
        seen.append(costs.machine.precision)
        return built(costs, *asked)

    monkeypatch.setattr(Costs, "_built", spied)
    costs.settle(before)
    costs.measure(backbone, 32)
    costs.measure_learning(recipe, Task(num_classes=3))
    assert seen == []
    costs.settle(after)
    costs.measure(backbone, 32)
    costs.measure_learning(recipe, Task(num_classes=3))
    assert seen == ["fp32", "fp32"]
    assert costs.answer(backbone, 32) == 0.5, "what was done in earnest stays"
