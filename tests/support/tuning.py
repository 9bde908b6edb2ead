"""Trials of how the machine computes fastest, which find what a test wants without computing anything."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import pytest

from fieldmark.core.machine import Machine
from fieldmark.learning.fitting import tuning
from fieldmark.learning.fitting.fit import Fit
from fieldmark.learning.training.bare import Duel, Job


class Trial(NamedTuple):
    """What was tried, and the most seconds that it was given."""

    job: Job
    most: float


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Trial]:
    """What was tried, on a machine with bf16 that is three times as slow as fp32; the layout makes no difference."""
    found: list[Trial] = []

    def duels(job: Job, most: float) -> list[Duel | None]:
        found.append(Trial(job, most))
        return [Duel(0.3, 0.1, 0.0), Duel(0.1, 0.1, 0.0)]

    def estimated(fit: Fit, rows: object, images: int | None = None, seconds: float = math.inf) -> tuning._Estimate:
        return tuning._Estimate(int(min(6_000, 10 * seconds)), 0.1, 0.001)

    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(tuning, "duels_of", duels)
    monkeypatch.setattr(tuning, "computes_bf16", lambda device: True)
    monkeypatch.setattr(tuning, "_estimated", estimated)
    monkeypatch.setattr(tuning, "_is_busy", lambda: False)
    monkeypatch.setattr(Machine, "decide", lambda *_: Machine("cpu", 1, 0, "bf16"))
    return found
