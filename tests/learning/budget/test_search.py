"""Whole trainings within a budget, in images, so that they are the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from html import unescape
from pathlib import Path
from typing import Any, final

import pytest

from fieldmark.commands.report import report
from fieldmark.commands.train import train
from fieldmark.core.errors import RecipeError, RunError
from fieldmark.core.listener import Event, Listener, StepTaken
from fieldmark.core.recipe import Backbone, Recipe, load_recipe
from fieldmark.core.wording import CROSSFIT
from fieldmark.learning.budget import networks, plan, probes, ways
from fieldmark.learning.budget.costs import Costs
from fieldmark.learning.budget.plan import Way
from fieldmark.learning.budget.probes import Probe
from fieldmark.learning.budget.work import Chosen, Work
from fieldmark.learning.fitting.fit import Stopped
from fieldmark.runs.budgeted import budget_of
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.facts import BudgetFacts
from fieldmark.runs.run import Run
from support.hearing import Heard, StopsAfter

Cli = Callable[..., Any]
SMALL = ["images.size=32", "train.precision=fp32", "backbone.mean=[0.5, 0.5, 0.5]"]


def within(data: Path, out: Path, budget: str, *overrides: str, **others: Any) -> tuple[Run, BudgetFacts, list[str]]:
    heard = Heard()
    settings = {"backbone": "test_resnet", "weights": "fieldguide", "listener": heard} | others
    run = train(data, out=out, budget=budget, overrides=[*SMALL, *overrides], **settings)
    facts = budget_of(run)
    assert facts is not None
    return run, facts, heard.notes


def test_the_trained_network_ships_if_it_is_better(many: Path, tmp_path: Path) -> None:
    run, facts, notes = within(many, tmp_path / "run", "2400 images")
    (probe,), (trial,) = facts["probes"], facts["trials"]
    assert 0.97 * 2400 < facts["spent"] <= 2400
    ships = "a probe of " if trial["accuracy"] <= probe["accuracy"] else "test_resnet at 32 px, trained for "
    assert facts["chosen"].startswith(ships)
    assert f"Chose {facts['chosen']}" in notes
    assert facts["because"]
    assert all(text in notes for text in facts["because"])
    assert run.is_finished
    page = unescape(report(run.folder).read_text())
    assert f"Chosen: {facts['chosen']}." in page
    assert f"{probe['backbone']} at 32 px" in page
    assert ("There are no epochs" in page) == (run.solver == "logistic")
    scores = (run.evaluation("val") / "scores.json").read_text()
    assert f'"num_images": {facts["validation"]}' in scores


def test_the_recipe_that_is_written_repeats_the_run(many: Path, tmp_path: Path) -> None:
    run, facts, _ = within(many, tmp_path / "run", "1800 images", "train.solver=gradient", "images.mirror=false")
    (trial,) = facts["trials"]
    recipe = load_recipe(str(run.folder / "recipe.toml"))
    assert recipe.train.solver == "gradient"
    assert recipe.train.epochs == max(1, round(trial["epochs"]))
    again = train(many, str(run.folder / "recipe.toml"), out=tmp_path / "again")
    assert again.recipe() == run.recipe()
    assert again.history()[-1]["step"] == pytest.approx(trial["steps"], abs=6), "an epoch has 6 steps"


def test_what_helps_a_promise_is_not_refused_after_a_budget(many: Path, tmp_path: Path, cli: Cli) -> None:
    """It is advice that reports, messages and refusals give."""
    chosen, _, _ = within(many, tmp_path / "run", "500 images", "train.solver=logistic")
    places = {"RUN": str(chosen.folder), "NEW": str(tmp_path / "again")}
    assert cli(*(places.get(word, word) for word in CROSSFIT.split()[1:])).status == 0
    again = Run(tmp_path / "again")
    assert again.recipe().changes(chosen.recipe()) == {"protocol": ("crossfit", "holdout")}
    bundle = Bundle.load(again.folder)
    assert bundle.calibration is not None
    assert bundle.calibration.num_images > 160, "training images, too"


def test_contenders_are_halved_and_the_winner_goes_on(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "ENOUGH_STEPS", 40)
    monkeypatch.setattr(plan, "_HEAT_STEPS", 4)
    run, facts, _ = within(many, tmp_path / "run", "3200 images", "train.batch_size=16", "train.batchnorm=plain")
    first, second = sorted(facts["trials"], key=lambda one: one["rounds"])
    assert (first["rounds"], second["rounds"]) == (0, 1), "the winner's last entry is that of the whole training"
    assert second["steps"] < first["steps"] / 2
    fits = {line["fit"] for line in run.history()}
    assert fits == {first["name"], second["name"]}
    steps = [line["step"] for line in run.history() if line["fit"] == first["name"]]
    assert steps == sorted(steps), "no step was taken twice"
    (told,) = (text for text in facts["because"] if "in a trial" in text)
    low, high = map(float, re.findall(r"([+-]\d+\.\d) to ([+-]\d+\.\d) points", told)[0])
    (trial,) = (one for one in facts["trials"] if one["rounds"])
    ahead = float(re.findall(r"trial: (\d+\.\d) %", told)[0])
    assert low <= ahead - 100 * trial["accuracy"] <= high, "an interval around the difference"
    assert facts["spent"] <= 3200


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials after few steps, and whole trainings of few."""
    monkeypatch.setattr(plan, "ENOUGH_STEPS", 40)
    monkeypatch.setattr(plan, "_HEAT_STEPS", 4)
    monkeypatch.setattr("fieldmark.core.recipe._EPOCHS", 4)
    monkeypatch.setattr("fieldmark.core.recipe._LEAST_STEPS", 40)


ONE_SIZE = ["train.batch_size=16", "train.batchnorm=plain", "train.solver=gradient"]


@pytest.mark.usefixtures("quick")
def test_the_rival_that_is_ahead_is_what_ships(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(work: Work, way: Way, probe: Probe | None, each: float, rounds: int) -> networks._Standing:
        return original(work, way, probe, each, rounds)._replace(accuracy=float(bool(way.recipe)))

    original = networks._judged
    monkeypatch.setattr(networks, "_judged", judged)
    run, facts, notes = within(many, tmp_path / "run", "3000 images", *ONE_SIZE)
    assert "recipe" in facts["open"]
    assert [way["recipe"] for way in facts["plan"]["ways"]] == ["", "bilinear_attention"]
    first, second = facts["trials"]
    assert (first["name"], first["rounds"]) == ("test_resnet at 32 px", 1)
    assert (second["name"], second["rounds"]) == ("bilinear_attention, test_resnet at 32 px", 0)
    assert run.recipe().method.name == "bilinear_attention"
    assert run.recipe().train.head_lr == load_recipe("bilinear_attention").train.head_lr
    assert facts["chosen"].startswith("bilinear_attention, test_resnet at 32 px, trained for ")
    assert f"Chose {facts['chosen']}" in notes
    assert second["name"] in unescape(report(run.folder).read_text())
    assert facts["spent"] <= 3000


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [RecipeError("It needs several cells"), RuntimeError("can't allocate memory")])
def test_a_rival_that_cannot_be_tried_leaves_the_others_alone(
    error: Exception, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(recipe: Recipe) -> None:
        raise error

    monkeypatch.setattr(ways, "rehearse", refused)
    with pytest.raises(Stopped):
        within(many, tmp_path / "run", "3000 images", *ONE_SIZE, listener=StopsAfter(1))
    facts = budget_of(Run(tmp_path / "run"))
    assert facts is not None
    assert [way["recipe"] for way in facts["plan"]["ways"]] == [""]


@pytest.mark.usefixtures("quick")
def test_a_contender_that_is_stopped_has_the_rest_of_its_share(many: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        within(many, tmp_path / "run", "3000 images", *ONE_SIZE, listener=StopsAfter(5))
    before = budget_of(Run(tmp_path / "run"))
    assert before is not None
    assert before["trying"] == {"name": "test_resnet at 32 px", "rounds": 1, "spent": 5 * 16}
    with pytest.raises(Stopped):  # in the trial of the other
        train(many, out=tmp_path / "run", resume=True, listener=StopsAfter(int(before["plan"]["each"]) // 16))
    (trial,) = (budget_of(Run(tmp_path / "run")) or before)["trials"]
    assert trial["steps"] == before["plan"]["each"] // 16, "and not five more"


def test_a_winner_is_not_judged_again(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a run that died when its training was over."""
    monkeypatch.setattr(plan, "ENOUGH_STEPS", 40)
    monkeypatch.setattr(plan, "_HEAT_STEPS", 4)
    with monkeypatch.context() as dying:
        dying.setattr("fieldmark.learning.budget.search._settle", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            within(many, tmp_path / "run", "3200 images", "train.batch_size=16", "train.batchnorm=plain")
    before = budget_of(Run(tmp_path / "run"))
    assert before is not None
    heard = Heard()
    after = budget_of(train(many, out=tmp_path / "run", resume=True, listener=heard))
    assert after is not None
    assert {one["rounds"] for one in after["trials"]} == {0, 1}
    assert not any("so far" in note for note in heard.notes)
    assert [one["steps"] for one in after["trials"]] == [one["steps"] for one in before["trials"]]


def test_a_stopped_run_goes_on_with_what_is_left(many: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        within(many, tmp_path / "run", "2200 images", listener=StopsAfter(10))
    before = budget_of(Run(tmp_path / "run"))
    assert before is not None
    assert 10 * 32 < before["spent"] < 1000
    with pytest.raises(RunError, match="began with a budget of 2200 images, not 7m"):
        train(many, out=tmp_path / "run", resume=True, budget="7m")
    heard = Heard()
    run = train(many, out=tmp_path / "run", resume=True, listener=heard)
    facts = budget_of(run)
    assert facts is not None
    assert before["spent"] < facts["spent"] <= 2200
    assert facts["probes"] == before["probes"], "it is not chosen again"
    steps = [line["step"] for line in run.history()]
    assert steps == sorted(set(steps))


@final
class ReadsNotes(Listener):
    """What the run's note says is spent, by the step of the network at that moment."""

    def __init__(self, run: Run) -> None:
        self.run, self.spent = run, dict[int, float]()

    def hear(self, event: Event) -> None:
        if isinstance(event, StepTaken) and (facts := budget_of(self.run)):
            self.spent[event.step] = facts["spent"]


@pytest.mark.parametrize(("setting", "checkpoint"), [("train.checkpoint_steps=0", 6), ("train.checkpoint_steps=4", 4)])
def test_what_is_spent_is_noted_with_each_checkpoint(setting: str, checkpoint: int, many: Path, tmp_path: Path) -> None:
    """A process that is killed has no time to note it, and would get it again."""
    notes = ReadsNotes(Run(tmp_path / "run"))
    within(many, tmp_path / "run", "1900 images", setting, recipe="finetune", listener=notes)
    assert notes.spent[checkpoint + 1] >= notes.spent[1] + 32 * checkpoint


def test_every_backbone_at_hand_is_probed(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = [Backbone(name=name, weights="none") for name in ("coat_tiny", "crossvit_tiny_240")]
    here.append(Backbone(name="test_resnet", weights="fieldguide"))
    monkeypatch.setattr(probes, "_at_hand", lambda own: here)
    monkeypatch.setattr("fieldmark.learning.fitting.weights.weights_license", lambda one: f"that of {one.name}")
    own = ["backbone.name=test_vit", "backbone.weights=none"]
    choices = "backbone", "solver", "epochs", "freeze"
    monkeypatch.setattr("fieldmark.commands.train.left_open", lambda *_, **__: choices)
    run, facts, notes = within(many, tmp_path / "run", "800 images", *own, backbone=None, weights=None)
    assert [one["backbone"] for one in facts["probes"]] == ["test_vit", "test_resnet"]
    assert max(facts["probes"], key=lambda one: one["accuracy"])["backbone"] == "test_resnet"
    assert run.recipe().backbone == here[2]
    passed = [note for note in notes if note.endswith("is passed over")]
    assert passed[0] == "The backbone 'coat_tiny' gives several maps instead of one, so coat_tiny is passed over"
    assert passed[1].startswith("The backbone 'crossvit_tiny_240' cannot process images of 32 px (")
    licenses = [note.rpartition("that of ")[2] for note in notes if note.startswith("The licence of the weights of ")]
    assert licenses == ["test_vit", "test_resnet"]


def test_what_a_network_leaves_that_loses_goes_to_further_probes(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loses(work: Work, probe: Probe) -> Chosen:
        return probe.chosen._replace(accuracy=0.0)

    monkeypatch.setattr(probes, "_FURTHER", 0.0)
    monkeypatch.setattr(probes, "_at_hand", lambda own: [Backbone(name="test_vit", weights="none")])
    monkeypatch.setattr("fieldmark.learning.budget.search.trained", loses)
    choices = "backbone", "solver", "epochs"
    monkeypatch.setattr("fieldmark.commands.train.left_open", lambda *_, **__: choices)
    run, facts, _ = within(many, tmp_path / "run", "2000 images")
    assert [one["backbone"] for one in facts["probes"]] == ["test_resnet", "test_vit"]
    assert run.solver == "logistic"
    assert facts["spent"] <= 2000


def test_a_network_that_is_bound_to_its_size_keeps_it(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Costs.measure

    def bound(costs: Costs, backbone: Backbone, size: int) -> None:
        if size != 32:
            raise RecipeError(f"It cannot process images of {size} px")
        measure(costs, backbone, size)

    monkeypatch.setattr(Costs, "measure", bound)
    monkeypatch.setattr("fieldmark.learning.budget.ways.sizes_of", lambda purse: [32, 16])
    _, facts, _ = within(many, tmp_path / "run", "2000 images")
    assert [one["size"] for one in facts["trials"]] == [32]


def test_without_validation_images_probes_are_cross_validated(pictures: Path, tmp_path: Path) -> None:
    _, facts, notes = within(pictures, tmp_path / "run", "5000 images")
    assert facts["by"] == "folds"
    assert facts["trials"] == []
    assert any("nothing can judge a training" in text for text in notes)


def test_a_named_recipe_stays_what_it_is(many: Path, tmp_path: Path) -> None:
    run, facts, _ = within(many, tmp_path / "run", "1900 images", recipe="part_discovery")
    assert facts["open"] == ["epochs"]
    assert facts["probes"] == []
    assert run.recipe().method.name == "part_discovery"
    assert facts["trials"][0]["steps"] >= plan.FEWEST_STEPS
    assert facts["spent"] <= 1900
    run, facts, _ = within(many, tmp_path / "probe", "1500 images", recipe="probe")
    assert run.recipe().train.solver == "logistic"
    assert facts["trials"] == []


def test_a_function_takes_what_the_command_takes(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, facts, _ = within(many, tmp_path / "run", "800 images", recipe="auto")
    assert run.is_finished
    assert "solver" in facts["open"], "it is no recipe that fixes anything"
    monkeypatch.setattr("fieldmark.commands.train._learn", lambda *_: 1 / 0)
    monkeypatch.setattr("fieldmark.commands.train._discarded_on_failure", lambda _: nullcontext())
    with pytest.raises(ZeroDivisionError):
        within(many, tmp_path / "paid", "2eur", price="1.20/h")
    paid = budget_of(Run(tmp_path / "paid"))
    assert paid is not None
    assert (paid["amount"], paid["written"]) == (6000, "2eur at 1.20/h")
    with pytest.raises(RecipeError, match="The recipe 'auto' is for a training within a budget"):
        train(many, "auto", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_budget_that_is_too_short_says_what_would_fit(many: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="too short for anything") as refused:
        within(many, tmp_path / "run", "100 images")
    told = re.search(r"([\d,]+ images) would do for `probe` at 32 px", str(refused.value))
    assert told
    within(many, tmp_path / "enough", told[1])
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_what_is_too_short_for_the_network_of_a_named_recipe_is_refused(many: Path, tmp_path: Path) -> None:
    """The recipe leaves open whether it is a probe, but within a budget a network is trained."""
    with pytest.raises(RecipeError, match="too short for anything") as refused:
        within(many, tmp_path / "run", "600 images", recipe="finetune")
    told = re.search(r"([\d,]+ images) would do for 30 steps at 32 px", str(refused.value))
    assert told
    within(many, tmp_path / "enough", told[1], recipe="finetune")


def test_what_is_too_short_in_money_is_answered_in_money(many: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"A budget of \$0.00001 at 1.20/h is too short .*\$0.\d+ would do for `probe`"
    ):
        within(many, tmp_path / "run", "$0.00001", price="1.20/h")


@pytest.mark.parametrize("setting", ["protocol=crossfit", "protocol=refit", "train.members=2"])
def test_what_leaves_no_way_to_judge_is_refused(setting: str, many: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=setting.partition("=")[0].rpartition(".")[2]):
        within(many, tmp_path / "run", "5000 images", setting)


def test_no_training_lasts_for_ever(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldmark.core.recipe._EPOCHS", 2)
    monkeypatch.setattr("fieldmark.core.recipe._LEAST_STEPS", 1)
    _, facts, _ = within(many, tmp_path / "run", "90000 images", "train.solver=gradient")
    assert facts["spent"] < 4000
    assert any("It ended before the budget did: 6 epochs are 3 times" in text for text in facts["because"])
