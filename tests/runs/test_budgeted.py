"""What a run within a budget remembers, as another version of Fieldmark may have written it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fieldmark.core.errors import FieldmarkError, RecipeError, RunError
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Recipe, load_recipe
from fieldmark.learning.budget.budget import Budget
from fieldmark.learning.budget.purse import Purse
from fieldmark.runs.budgeted import asked_of, budget_of
from fieldmark.runs.run import Run

_HINT = r"If another version of Fieldmark wrote this run \(environment.json names it\), use that version\. Else put"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    found = Run.create(tmp_path / "run", Recipe(), Machine("cpu", 1, 0, "fp32"))
    Purse.begin(found, Budget(1000, "images", "1000 images"), Recipe(), ["epochs"])
    return found


def test_a_note_without_a_key_may_be_of_another_version(run: Run) -> None:
    file = run.folder / "budget.json"
    facts = json.loads(file.read_text())
    del facts["open"]
    file.write_text(json.dumps(facts))
    with pytest.raises(RunError, match=rf"budget\.json cannot be read: there is no key 'open'\. {_HINT}"):
        budget_of(run)


@pytest.mark.parametrize(
    ("asked", "said"), [("[train]\nspeed = 3\n", "there is no key 'train.speed'"), ("[[", "cannot be read: ")]
)
def test_so_may_the_recipe_that_was_asked_for(asked: str, said: str, run: Run) -> None:
    file = run.folder / "budget.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"asked": asked}))
    with pytest.raises(FieldmarkError, match=rf"budget\.json.*{said}.*{_HINT}"):
        asked_of(run)


@pytest.mark.parametrize("line", ["epoch = 3", "precision = 'fp4'"])
def test_the_recipe_of_a_run_is_no_typing_error(line: str, run: Run, tmp_path: Path) -> None:
    file = run.folder / "recipe.toml"
    file.write_text(f"[train]\n{line}\n")
    with pytest.raises(RecipeError, match=_HINT):
        run.recipe()
    with pytest.raises(RecipeError, match=_HINT):
        load_recipe(str(file))
    own = tmp_path / "own.toml"
    own.write_text(file.read_text())
    with pytest.raises(RecipeError, match=r"Did you mean 'epochs'|Input should be"):
        load_recipe(str(own))


def test_a_recipe_that_is_damaged_may_be_put_back(run: Run) -> None:
    (run.folder / "recipe.toml").write_text("[[")
    with pytest.raises(RunError, match=rf"recipe\.toml cannot be read: .*{_HINT}"):
        run.recipe()
