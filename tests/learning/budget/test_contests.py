"""Contests within a budget that do not go as planned: contenders that fail, and processes that die in the middle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fieldmark.commands.train import train
from fieldmark.core.errors import TrainingError
from fieldmark.core.recipe import Backbone, Recipe
from fieldmark.evaluation.outputs import Outputs
from fieldmark.learning.budget import networks, plan
from fieldmark.learning.budget.plan import Heats, Way
from fieldmark.learning.budget.probes import Probe
from fieldmark.learning.budget.work import Work
from fieldmark.learning.fitting.fit import Fit, Fitted, Stopped
from fieldmark.runs.budgeted import budget_of
from fieldmark.runs.facts import BudgetFacts
from fieldmark.runs.run import Run
from support.hearing import StopsAfter

SMALL = ["images.size=32", "train.batch_size=16", "train.precision=fp32", "backbone.mean=[0.5, 0.5, 0.5]"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials after few steps, and whole trainings of few."""
    monkeypatch.setattr(plan, "ENOUGH_STEPS", 20)
    monkeypatch.setattr(plan, "_HEAT_STEPS", 2)
    monkeypatch.setattr("fieldmark.core.recipe._EPOCHS", 1)
    monkeypatch.setattr("fieldmark.core.recipe._LEAST_STEPS", 20)


def within(many: Path, out: Path, *overrides: str, budget: str = "3000 images", **others: Any) -> Run:
    settings = {"backbone": "test_resnet", "weights": "fieldguide"} | others
    return train(many, out=out, budget=budget, overrides=[*SMALL, *overrides], **settings)


def facts_of(out: Path) -> BudgetFacts:
    facts = budget_of(Run(out))
    assert facts is not None
    return facts


def four(monkeypatch: pytest.MonkeyPatch, accuracies: list[float]) -> None:
    """Four contenders, A to D, which are one training by four names; what they have right, trial for trial. Where
    nothing is left in the list, the process dies."""
    plan_of = networks.plan_of

    def planned(work: Work, probe: Probe | None) -> Heats:
        (way,) = plan_of(work, probe).ways[:1]
        return Heats(tuple(replace(way, probe=float(number)) for number in range(4)), 32.0)

    def accuracy(work: Work, outputs: Outputs) -> float:
        return accuracies.pop(0) if accuracies else 1 / 0

    monkeypatch.setattr(networks, "plan_of", planned)
    monkeypatch.setattr(Way, "name", property(lambda way: "ABCD"[int(way.probe)]))
    monkeypatch.setattr(Work, "accuracy", accuracy)


def ranking(run: Run) -> dict[str, list[float]]:
    return {one["name"]: one["stood"] for one in facts_of(run.folder)["trials"]}


GRADIENT = ["train.batchnorm=plain", "train.solver=gradient"]


@pytest.mark.parametrize("done", [2, 5, 7, *(pytest.param(done, marks=pytest.mark.slow) for done in (4, 6))])
def test_whoever_resumes_has_the_same_winners(
    done: int, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though A is worse after its second trial than C was after its first, and B after its last step."""
    told = [0.9, 0.8, 0.7, 0.6, 0.65, 0.75, 0.5]
    accuracies = told[:done]
    four(monkeypatch, accuracies)
    with monkeypatch.context() as dying:
        dying.setattr("fieldmark.learning.budget.search._settle", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            within(many, tmp_path / "run", *GRADIENT)
    accuracies += [*told[done:], 0.5]  # the last one is asked again
    run = train(many, out=tmp_path / "run", resume=True)
    assert ranking(run) == {"A": [0.9, 0.65], "B": [0.8, 0.75], "C": [0.7], "D": [0.6]}
    assert [one["name"] for one in facts_of(run.folder)["trials"] if not one["rounds"]] == ["B"]


def diverging(monkeypatch: pytest.MonkeyPatch, *methods: str) -> None:
    fitted = Fit.train

    def train(fit: Fit, *rows: Any) -> Fitted:
        if fit.recipe.method.name in methods:
            raise TrainingError("The loss became nan at step 3 (effect)")
        return fitted(fit, *rows)

    monkeypatch.setattr(Fit, "train", train)


def test_a_contender_that_cannot_be_trained_leaves_the_others_alone(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        diverging(dying, "bilinear_attention")
        dying.setattr("fieldmark.learning.budget.search._settle", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            within(many, tmp_path / "run", *GRADIENT)
    plan, failed = facts_of(tmp_path / "run")["plan"], facts_of(tmp_path / "run").get("failed", {})
    assert [way["recipe"] for way in plan["ways"]] == ["", "bilinear_attention"]
    assert list(failed) == ["bilinear_attention, test_resnet at 32 px"]
    run = train(many, out=tmp_path / "run", resume=True)
    facts = facts_of(run.folder)
    assert run.recipe().method.name == "transfer"
    assert [one["name"] for one in facts["trials"]] == ["test_resnet at 32 px"]
    assert all(one["name"] not in failed for one in facts["trials"]), "it is not tried again"
    (because,) = (text for text in facts["because"] if "trial" in text)
    assert because == f"{next(iter(failed))} was out of a trial: The loss became nan at step 3 (effect)."


def test_where_no_network_can_be_trained_it_is_said(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(monkeypatch, "bilinear_attention", "transfer")
    with pytest.raises(TrainingError, match="The loss became nan"):
        within(many, tmp_path / "run", *GRADIENT)


def test_where_no_network_can_be_trained_a_probe_ships(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging(monkeypatch, "bilinear_attention", "transfer")
    run = within(many, tmp_path / "run")
    assert run.solver == "logistic"
    told = [text for text in facts_of(run.folder)["because"] if "not trained to its end: The loss became nan" in text]
    assert len(told) == 1


def test_a_head_starts_from_a_probe_of_its_own_backbone(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of another have another width."""

    def others(asked: Recipe, *_: Any, **__: Any) -> dict[str, Recipe]:
        return {"other": asked.model_copy(update={"backbone": Backbone(name="test_vit", weights="none")})}

    monkeypatch.setattr("fieldmark.commands.train.rivals", others)
    run = within(many, tmp_path / "run", "train.batchnorm=plain", "train.head_start=logistic", "train.freeze_stages=0")
    assert {one["backbone"] for one in facts_of(run.folder)["trials"]} == {"test_resnet", "test_vit"}


def test_statistics_are_paid_for_once(many: Path, tmp_path: Path) -> None:
    def spent(*steps: int) -> float:
        for number, count in enumerate(steps):
            with pytest.raises(Stopped):
                within(
                    many,
                    tmp_path / str(steps),
                    "train.solver=gradient",
                    "images.mirror=false",
                    resume=number > 0,
                    listener=StopsAfter(count),
                    recipe="finetune",
                )
        return facts_of(tmp_path / str(steps))["spent"]

    assert spent(4, 6) == spent(10)
