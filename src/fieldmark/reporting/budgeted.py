"""The section about a budget: what was tried in it, what each cost and was worth, and why the winner won."""

from __future__ import annotations

from fieldmark.core.wording import counted, duration
from fieldmark.reporting.blocks import Block, Cell, Section, Table, Text
from fieldmark.reporting.material import Material
from fieldmark.runs.budgeted import budget_of
from fieldmark.runs.facts import BudgetFacts

__all__ = ["budget"]

_OPEN = {
    "recipe": "the recipe",
    "backbone": "the backbone",
    "size": "the size of the pictures",
    "freeze": "which stages learn",
    "solver": "whether the network learns or a probe will do",
    "epochs": "the number of epochs",
}
_BY = {
    "validation": "The accuracies are those on {}, on which the choice was made: they flatter the winner a little.",
    "folds": "With {} nothing could judge, so the accuracies are those of cross-validation on training images.",
}


def budget(material: Material) -> Section | None:
    """None for a run without a budget."""
    facts = budget_of(material.run)
    if facts is None:
        return None
    asked = [words for key, words in _OPEN.items() if key in facts["open"]]
    spent = f"Budget: {facts['written']}, of which {_amount(facts, facts['spent'])} were spent"
    blocks: list[Block] = [Text(f"{spent}. It decided {', '.join(asked) or 'nothing'}.")]
    if chosen := facts.get("chosen"):
        blocks.append(Text(" ".join([f"Chosen: {chosen}.", *facts.get("because", [])])))
    if rows := [*_probes(facts), *_networks(facts)]:
        blocks.append(Table(("tried", "steps", "one step", "spent", "accuracy"), tuple(rows)))
        judges, by = facts.get("validation", 0), facts.get("by", "validation")
        if judges or by == "folds":  # else nothing was judged
            blocks.append(Text(_BY[by].format(counted(judges, "validation image")), "soft"))
    return Section("budget", "What the budget was spent on", tuple(blocks))


def _probes(facts: BudgetFacts) -> list[tuple[Cell, ...]]:
    return [
        (
            f"probe of {one['backbone']} at {one['size']} px",
            "",
            "",
            _amount(facts, one["spent"]),
            f"{100 * one['accuracy']:.1f} %",
        )
        for one in facts["probes"]
    ]


def _networks(facts: BudgetFacts) -> list[tuple[Cell, ...]]:
    start = {"logistic": ", from the head of a probe", "random": ""}
    return [
        (
            f"{one['name']}{start[one['start']]}{' (trial)' if one['rounds'] else ''}",
            f"{one['steps']:,}",
            _amount(facts, one["step"]),
            _amount(facts, one["spent"]),
            f"{100 * one['accuracy']:.1f} %" if facts.get("validation") != 0 else "",
        )
        for one in facts["trials"]
    ]


def _amount(facts: BudgetFacts, amount: float) -> str:
    return duration(amount) if facts["unit"] == "seconds" else counted(round(amount), "image")
