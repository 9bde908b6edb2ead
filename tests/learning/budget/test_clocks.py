"""A clock that is set, by hand or by the network, changes nothing: time is measured by one that nobody sets."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fieldmark.commands.train import train
from fieldmark.learning.budget import budget, costs
from fieldmark.runs.budgeted import budget_of
from fieldmark.runs.facts import BudgetFacts

_TINY = [
    "images.size=32",
    "train.precision=fp32",
    "backbone.mean=[0.5, 0.5, 0.5]",
    "train.solver=gradient",
    "augment.flip=true",
]


def trained(pictures: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> BudgetFacts:
    """A training within two minutes, of which half a second passes whenever somebody looks at the clock."""
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: 0.5 * next(ticks), time=time.time)
    monkeypatch.setattr(budget, "time", clock)
    monkeypatch.setattr(costs, "time", clock)
    began = budget.Budget(120, written="2m", began=0.0)
    run = train(pictures, out=out, budget=began, backbone="test_resnet", weights="fieldguide", overrides=_TINY)
    facts = budget_of(run)
    assert facts is not None
    return facts


def test_a_clock_that_jumps_changes_nothing(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = trained(pictures, tmp_path / "before", monkeypatch)
    jumps, now = itertools.cycle([9e6, -9e6, 0.0]), time.time
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    assert trained(pictures, tmp_path / "after", monkeypatch) == before
    assert before["trials"][0]["steps"] > 10
    assert 60 < before["spent"] <= 130
