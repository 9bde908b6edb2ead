"""`Purse`: what a run may still spend, and what it has learnt by spending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Self, final

from fieldmark.core.errors import RecipeError, RunError
from fieldmark.core.launch import launched
from fieldmark.core.recipe import Recipe
from fieldmark.learning.budget.budget import Budget, Meter
from fieldmark.learning.budget.costs import Costs
from fieldmark.learning.fitting.trial import solved
from fieldmark.runs.budgeted import asked_of, budget_of, keep_budget, rivals_of
from fieldmark.runs.facts import BudgetFacts
from fieldmark.runs.run import Run

__all__ = ["Open", "Purse", "left_open"]

_PIECES = {"method.name", "neck.name", "head.name", "loss.name", "auxiliary.name"}
"""A recipe of which the user has exchanged a piece is no longer the default."""

Open = Literal["recipe", "backbone", "size", "freeze", "solver", "epochs"]


def left_open(
    recipe: object, backbone: str | None, weights: str | None, overrides: Sequence[str], *, goes_on: bool = False
) -> tuple[Open, ...]:
    """What a user leaves to the budget: everything that was not named; of a recipe that was, size and epochs; of a run
    that `goes_on` from another, the epochs."""
    named = {text.partition("=")[0].strip() for text in overrides}
    own_backbone = backbone or weights or any(key.startswith("backbone.") for key in named)
    said: dict[Open, Any] = {
        "recipe": recipe or named & _PIECES,
        "backbone": recipe or own_backbone,
        "size": named & {"images.size", "images.train_scale"},
        "freeze": recipe or "train.freeze_stages" in named,
        "solver": recipe or "train.solver" in named,
        "epochs": "train.epochs" in named,
    }
    return tuple(key for key, fixed in said.items() if not fixed and (key == "epochs" or not goes_on))


@final
class Purse:
    """The meter of a run, and what the run remembers of its budget. What is spent is kept with every entry, so a run
    that is stopped goes on with what is left; the time in between does not count."""

    def __init__(self, run: Run, budget: Budget, facts: BudgetFacts) -> None:
        self.run, self.facts = run, facts
        self.meter = Meter(budget, facts["spent"])
        self.costs = Costs(run.machine(), self.in_seconds)

    @classmethod
    def begin(cls, run: Run, budget: Budget, recipe: Recipe, open: Sequence[Open]) -> Self:
        """For a new run with this recipe. Raises RecipeError for one that leaves no way to judge."""
        if recipe.protocol != "holdout":
            raise RecipeError(
                f"With a budget, validation images choose, and the protocol {recipe.protocol!r} holds none out",
                "Use --set protocol=holdout, or leave --budget out.",
            )
        if recipe.train.freeze_stages == "all":
            raise RecipeError(
                "A budget is for a backbone that learns, and train.freeze_stages = 'all' freezes all of it",
                "Leave one of them out, or freeze a number of stages.",
            )
        if launched():
            raise RecipeError("A budget is for one process", "Leave --budget out, or train without torchrun.")
        for key, wrong in (("members", recipe.train.members > 1), ("pseudo_weight", recipe.train.pseudo_weight)):
            if wrong:
                raise RecipeError(
                    f"A budget is for one training, and train.{key} makes several", "Leave one of them out."
                )
        for key, wrong in (("ema", recipe.train.ema), ("head_epochs", recipe.train.head_epochs)):
            if wrong:
                raise RecipeError(
                    f"train.{key} goes by the length of a training, which is not known beforehand within a budget",
                    "Leave one of them out.",
                )
        facts: BudgetFacts = {
            "written": budget.written,
            "amount": budget.amount,
            "unit": budget.unit,
            "asked": recipe.to_toml(),
            "open": list(open),
            "spent": 0.0,
            "probes": [],
            "trials": [],
        }
        purse = cls(run, budget, facts)
        purse.keep()
        return purse

    @classmethod
    def of(cls, run: Run, asked: Budget | None) -> Self | None:
        """That of a run which is resumed; None if it has no budget. Raises RunError if another one is asked for, and
        where several processes were launched: each would take another number of steps."""
        facts = budget_of(run)
        if facts is None:
            if asked:
                raise RunError(f"{run.folder} began without a budget", "Start a new run with another --out.")
            return None
        if launched():
            raise RunError(f"{run.folder} has a budget, which is for one process", "Resume it without torchrun.")
        amount, unit = facts["amount"], facts["unit"]
        if asked and (asked.amount, asked.unit) != (amount, unit):
            raise RunError(
                f"{run.folder} began with a budget of {facts['written']}, not {asked.written}",
                "To continue it, leave --budget out or give the same; or start a new run with another --out.",
            )
        return cls(run, asked or Budget(amount, unit, facts["written"]), facts)

    @property
    def recipe(self) -> Recipe:
        """The recipe that was asked for, with the solver of the run that it goes on from, if any."""
        asked = asked_of(self.run)
        settled = self.run.decided("solver") if asked.train.solver == "auto" and not self.leaves("solver") else None
        return solved(asked, settled) if settled else asked

    @cached_property
    def rivals(self) -> dict[str, Recipe]:
        """Recipes that compete with it where there is time for them, by name."""
        return rivals_of(self.run)

    @property
    def sized(self) -> Recipe:
        """The same at the size of the first probe, once that is known."""
        recipe = self.recipe
        return recipe.model_copy(update={"images": recipe.images.model_copy(update={"size": self.facts["size"]})})

    @property
    def in_seconds(self) -> bool:
        return self.meter.budget.unit == "seconds"

    def compete(self, rivals: Mapping[str, Recipe]) -> None:
        """Let these recipes compete with it."""
        self.facts["rivals"] = {name: rival.to_toml() for name, rival in rivals.items()}
        self.keep()

    def leaves(self, what: Open) -> bool:
        """Whether the budget decides this."""
        return what in self.facts["open"]

    @property
    def only_network(self) -> bool:
        """Whether a network is trained and no probe is tried: the solver is fixed, and is not a probe's."""
        return not self.leaves("solver") and self.recipe.train.solver != "logistic"

    def keep(self) -> str:
        """Write down what is known, and what is spent; give the latter in words."""
        self.facts["spent"] = round(max(0.0, self.meter.spent), 2)
        keep_budget(self.run, self.facts)
        return self.said(self.facts["spent"])

    def said(self, amount: float) -> str:
        """An amount in words."""
        return self.meter.budget.said(amount)
