"""The beginning of a training within a budget: a size for the pictures, or a refusal that says what would fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldmark.core.errors import RecipeError
from fieldmark.core.listener import Listener, relayed_warnings
from fieldmark.core.recipe import Recipe
from fieldmark.core.wording import counted
from fieldmark.data.catalog import Catalog
from fieldmark.data.readers.columns import Columns
from fieldmark.data.sets import read
from fieldmark.learning.budget.plan import FEWEST_STEPS, probe_size
from fieldmark.learning.budget.purse import Purse
from fieldmark.learning.fitting.task import task_of

__all__ = ["sized", "sizes_of"]

_BESIDE, _ALONE = 0.4, 0.6
"""The shares of what is left that a probe may take: with a network to follow, and where there is no time for one."""
_LEARNING = 3
"""How many answers a picture costs that a network learns from, roughly: there and back."""
_SLOWER, _MORE = 1.5, 1.3
"""Times what was found out, a budget that is suggested: the next time, the machine may be slower."""
_SHARES = (1.0, 5 / 7, 4 / 7)
"""Of the recipe's size: 224, 160 and 128 px."""


def sizes_of(purse: Purse) -> list[int]:
    """The sizes of pictures that may be tried, the largest first."""
    size = purse.recipe.images.size
    shares = _SHARES if purse.leaves("size") else (1.0,)
    return sorted({max(16, round(size * share / 32) * 32) if share < 1 else size for share in shares}, reverse=True)


def sized(
    purse: Purse, listener: Listener, data: Path | str | Catalog, columns: Columns | None
) -> tuple[Catalog, Recipe]:
    """The data, read, and the recipe with the size that begins: at which a probe takes its share of the budget.

    Raises RecipeError if the budget is too short for anything.
    """
    with relayed_warnings(listener):
        catalog = data if isinstance(data, Catalog) else read(data, columns=columns, tell=listener.note)
    recipe, sizes, costs = purse.recipe, sizes_of(purse), purse.costs
    size = purse.facts.get("size")
    for one in {max(sizes), min(sizes), *([size] if size else [])}:
        costs.measure(recipe.backbone, one)
    costs.look_at(catalog, recipe.images)
    if recipe.augment.flip == "auto":
        costs.look_at_mirrors()
    rows = int((catalog.splits != "test").sum())
    costs.look_at_regression(rows, len(catalog.classes))
    least = {one: _least(purse, recipe, catalog, rows, one) for one in sizes}
    if size is None:
        left, batch = purse.meter.left, recipe.train.batch_size
        network = FEWEST_STEPS * batch * _LEARNING * costs.answer(recipe.backbone, min(sizes))
        size = probe_size(least, left, _BESIDE if network < (1 - _BESIDE) * left else _ALONE)
        if size is None:
            raise _too_short(purse, recipe, least)
    purse.facts["size"] = size
    purse.keep()
    return catalog, purse.sized


def _least(purse: Purse, recipe: Recipe, catalog: Catalog, rows: int, size: int) -> float:
    """What it takes to decode all, and for a probe; or for the fewest steps of a recipe that is none."""
    backbone, train, costs = recipe.backbone, recipe.train, purse.costs
    shared = costs.decode(len(catalog)) + costs.loading + costs.finishing
    looks = 1 + recipe.images.mirror if purse.only_network else 1
    answers = costs.answer(backbone, size) * rows * looks
    if purse.only_network:
        costs.measure(backbone, size)
        sized = recipe.model_copy(update={"images": recipe.images.model_copy(update={"size": size})})
        costs.measure_learning(sized, task_of(catalog, recipe, np.flatnonzero(catalog.splits != "test")))
        return (
            shared
            + costs.mirror(rows, len(catalog.classes))
            + answers
            + FEWEST_STEPS * costs.step(sized, train.batch_size)
        )
    return shared + answers + costs.heads(1)


def _too_short(purse: Purse, recipe: Recipe, least: dict[int, float]) -> RecipeError:
    size, cost = min(least.items(), key=lambda found: found[1])
    what = counted(FEWEST_STEPS, "step") if purse.only_network else "`probe`"
    needed = (_SLOWER if purse.in_seconds else _MORE) * (purse.meter.spent + cost)
    begun = f": starting and reading took {purse.said(purse.meter.spent)}" if purse.in_seconds else ""
    return RecipeError(
        f"A budget of {purse.facts['written']} is too short for anything{begun}",
        f"{purse.meter.budget.enough(needed)} would do for {what} at {size} px.",
    )
