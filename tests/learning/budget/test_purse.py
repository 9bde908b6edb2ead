"""What a run within a budget begins and goes on with, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fieldmark.core.errors import RecipeError, RunError
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Recipe, Train
from fieldmark.learning.budget.budget import Budget
from fieldmark.learning.budget.purse import Purse
from fieldmark.runs.run import Run

BUDGET = Budget(1000, "images", "1000 images")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", Recipe(), Machine("cpu", 1, 0, "fp32"))


def test_it_is_for_one_process_from_the_beginning_and_when_it_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Purse.begin(run, BUDGET, Recipe(), [])
    assert Purse.of(run, None)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RecipeError, match="for one process"):
        Purse.begin(run, BUDGET, Recipe(), [])
    with pytest.raises(RunError, match="for one process"):
        Purse.of(run, None)


@pytest.mark.parametrize("setting", [{"ema": True}, {"head_epochs": 2}])
def test_what_goes_by_the_length_of_a_training_is_refused(setting: dict[str, Any], run: Run) -> None:
    (key,) = setting
    with pytest.raises(RecipeError, match=f"train.{key} goes by the length"):
        Purse.begin(run, BUDGET, Recipe(train=Train(**setting)), [])
