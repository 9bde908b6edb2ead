"""What a run within a budget remembers: what it may take, what it tried, and why it chose what it did."""

from __future__ import annotations

from fieldmark.core.errors import RunError
from fieldmark.core.reading import other_version, parse_toml, read_json, reason
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import write_bytes, write_json
from fieldmark.runs.facts import BudgetFacts
from fieldmark.runs.run import Run

__all__ = ["asked_of", "budget_of", "has_tried", "keep_budget", "rivals_of", "settle_recipe"]

_FILE = "budget.json"


def budget_of(run: Run) -> BudgetFacts | None:
    """None for a run without a budget. Raises RunError if the file is damaged."""
    try:
        return read_json(run.folder / _FILE, BudgetFacts)
    except FileNotFoundError:
        return None


def has_tried(run: Run) -> bool:
    """Whether a part of its budget has gone into something that is known by now."""
    facts = budget_of(run)
    return facts is not None and bool(facts["probes"] or facts["trials"])


def asked_of(run: Run) -> Recipe:
    """The recipe that a run began with: its own, unless a budget has made another of it."""
    facts = budget_of(run)
    return run.recipe() if facts is None else _recipe(run, facts["asked"])


def rivals_of(run: Run) -> dict[str, Recipe]:
    """Recipes that may compete, within its budget, with the one that a run began with; by name."""
    facts = budget_of(run)
    return {name: _recipe(run, text) for name, text in facts.get("rivals", {}).items()} if facts else {}


def keep_budget(run: Run, facts: BudgetFacts) -> None:
    """Remember it, in place of what was remembered before."""
    write_json(run.folder / _FILE, facts)


def _recipe(run: Run, text: str) -> Recipe:
    path = str(run.folder / _FILE)
    try:
        return Recipe.parse(parse_toml(text), source=path)
    except ValueError as error:
        raise RunError(f"{path} cannot be read: {reason(error)}", other_version(path)) from None


def settle_recipe(run: Run, recipe: Recipe) -> None:
    """Make the recipe that was chosen the run's own: running it again repeats the training."""
    write_bytes(run.folder / "recipe.toml", recipe.to_toml().encode())
